"""A plant described by a Python class, for what is easier to say in Python than in Structured Text.

Called by the simulated driver (real time) and by `vplc.simulate` (virtual time).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from vplc.scan.errors import Problem, Refused

Value = bool | int | float


@runtime_checkable
class Plant(Protocol):
    """What a plant class must offer; it is made without arguments.

    `step` gets what the program asks of the plant and moves time on by `dt_s` seconds; the result is what the sensors
    say then. The first call has `dt_s` 0: the sensors before anything has moved. The same calls must give the same
    answers (no clock, no random numbers without a seed). Attributes may be set and ramped by stimuli.
    """

    def step(self, outputs: Mapping[str, Value], dt_s: float) -> Mapping[str, Value]: ...


def file_of(name: str, folder: Path) -> Path | None:
    """The source file of `FILE.py:Class` or `module:Class`; None when there is no such module."""
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return folder / place
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.origin else None


def load(name: str, folder: Path, where: str) -> Plant:
    """An object of the class. Raises Refused when there is no such class, or it is no plant."""
    place, _, kind = name.rpartition(":")
    try:
        if place.endswith(".py"):
            path = folder / place
            unique = f"vplc_plant_{path.stem}"
            spec = importlib.util.spec_from_file_location(unique, path)
            if spec is None or spec.loader is None or not path.is_file():
                raise Refused([Problem(where, f"there is no file {place}")])
            module = importlib.util.module_from_spec(spec)
            sys.modules[unique] = module  # dataclasses look their own module up
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        made = getattr(module, kind)()
    except Refused:
        raise
    except AttributeError as error:
        known = [n for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
        hint = f"it has: {', '.join(known)}" if known else ""
        raise Refused([Problem(where, f"{place} makes no {kind}: {error}", hint)]) from error
    except Exception as error:  # somebody else's code: whatever it raises is their mistake, told as one
        raise Refused([Problem(where, f"{name} cannot be made: {type(error).__name__}: {error}")]) from error
    if not isinstance(made, Plant):
        raise Refused([Problem(where, f"{name} has no method step(outputs, dt_s)")])
    return made
