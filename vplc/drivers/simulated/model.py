"""A plant compiled by `vplc build`, loaded as it is: no compiler is needed.

Called by the simulated driver. It is a `Plant` like one in Python: variables by name, one run per step.
"""

from __future__ import annotations

import ctypes
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from vplc.drivers.plant import Value
from vplc.scan import layout, values
from vplc.scan.errors import Problem, Refused
from vplc.scan.layout import Layout, Variable


class StepError(Exception):
    """The model faulted; the message says where."""


class CompiledPlant:
    def __init__(self, library: Path, program: str, dt: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """`inputs` are the variables it is given, `outputs` those it is asked for. Raises Refused."""
        self._layout: Layout = layout.load(library.with_suffix(".json"))
        programs = {p.name.upper(): p for p in self._layout.programs}
        chosen = programs.get(program.upper()) if program else next(iter(programs.values()), None)
        if chosen is None or (not program and len(programs) != 1):
            known = ", ".join(p.name for p in self._layout.programs)
            raise Refused([Problem(str(library), f'there is no program "{program}"', f"it has: {known}")])
        self._program = chosen.name
        problems: list[Problem] = []
        self._places = {n: self._find(n, problems, str(library)) for n in (*inputs, *outputs, *([dt] if dt else []))}
        if problems:
            raise Refused(problems)
        self._asked = tuple(outputs)
        self._dt, self._now_ns = dt, 0
        try:
            code = ctypes.CDLL(str(library.resolve()))
            self._run = code[chosen.run]
            start = code["vplc_init"]
        except (OSError, AttributeError) as error:
            raise Refused([Problem(str(library), f"cannot be loaded: {error}")]) from error
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        start.argtypes = [ctypes.c_void_p]
        self._room = ctypes.create_string_buffer(self._layout.state_size + 16)
        self._state = ctypes.addressof(self._room) + 15 & ~15
        shift = self._state - ctypes.addressof(self._room)
        self._memory = memoryview(self._room).cast("B")[shift:]
        if start(self._state):
            raise Refused([Problem(str(library), "faults while it starts")])

    def _find(self, name: str, problems: list[Problem], where: str) -> Variable:
        wanted = {name.upper(), f"{self._program}.{name}".upper()}
        for v in self._layout.variables:
            if v.path.upper() in wanted and v.base in values.SIZES:
                return v
        known = [v.path.removeprefix(self._program + ".") for v in self._layout.variables]
        close = difflib.get_close_matches(name, known, 1)
        hint = f'did you mean "{close[0]}"?' if close else ""
        problems.append(Problem(where, f'the plant has no number or BOOL "{name}"', hint))
        return Variable(name, None, "BOOL", "BOOL", 0, 1, -1, False, False, None)

    def _put(self, name: str, value: Value) -> None:
        v = self._places[name]
        if v.bit >= 0:
            old = self._memory[v.offset]
            self._memory[v.offset] = old & ~(1 << v.bit) & 255 | int(bool(value)) << v.bit
            return
        number = value if v.base in ("REAL", "LREAL") else bool(value) if v.base == "BOOL" else round(value)
        try:
            self._memory[v.offset : v.offset + v.size] = values.encode(v.base, number)
        except ValueError as error:
            raise StepError(f"{name}: {error}") from error

    def step(self, outputs: Mapping[str, Value], dt_s: float) -> Mapping[str, Value]:
        """Raises StepError."""
        for name, value in outputs.items():
            self._put(name, value)
        if dt_s > 0:
            if self._dt:
                self._put(self._dt, dt_s)
            if self._run(self._state, self._now_ns):
                site = int.from_bytes(self._memory[self._layout.fault_site :][:4], "little")
                found = self._layout.sites.get(site)
                raise StepError(f"{found.pou}, line {found.line}: {found.message}" if found else "it faulted")
            self._now_ns += round(dt_s * 1e9)
        out: dict[str, Value] = {}
        for name in self._asked:
            v = self._places[name]
            shown = values.decode(v.base, bytes(self._memory[v.offset : v.offset + v.size]), v.bit)
            out[name] = shown if isinstance(shown, (bool, int, float)) else float(str(shown))  # nan, inf
        return out
