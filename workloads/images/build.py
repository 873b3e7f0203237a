"""Make the images that are missing or out of date.

Called by `python -m workloads.images`, the demo and the tests. Each image is built from a context prepared
under `build/images/<name>`: its Dockerfile, the third-party Python already unpacked, its own sources and,
for the broker, a root file system. So no build step needs a network, a shell or pip.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workloads.images import ImageError, container_engine, control, inputs, rootfs, wheels
from workloads.images.recipes import BASE, RECIPES, Recipe, named

ROOT = Path(__file__).resolve().parents[2]
INPUTS_LABEL = "sluice.inputs"
_EPOCH = 1_600_000_000  # one fixed time stamp on every file: the layers differ only when the content does


@dataclass(frozen=True, slots=True)
class Built:
    """One image as the engine holds it; `fresh` when this run built it. Sizes in bytes."""

    name: str
    reference: str
    digest: str
    size: int
    goal: int | None
    fresh: bool


def version(root: Path = ROOT) -> str:
    """The product's version, from pyproject.toml."""
    with (root / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def reference(name: str, root: Path = ROOT) -> str:
    """The image's name for people, such as `sluice/agent:0.1.0`."""
    return f"sluice/{name}:{version(root)}"


def build(
    recipes: Iterable[Recipe] = RECIPES,
    *,
    root: Path = ROOT,
    anew: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Built]:
    """Build what is out of date and report on every image asked for.

    `anew` builds all of them with the newest Debian packages. Raises ImageError.
    """
    architecture = container_engine.architecture()
    done: list[Built] = []
    with _alone(root):
        base = None
        for recipe in recipes:
            if recipe.rootfs is None and base is None:
                base = _base(root, architecture, anew, say)
            below = "" if recipe.rootfs else base or ""
            if recipe.runtime:
                below = _one(named(recipe.runtime), root, architecture, below, False, say).digest
            done.append(_one(recipe, root, architecture, below, anew, say))
    return done


def context(recipe: Recipe, architecture: str, root: Path = ROOT) -> Path:
    """Prepare the build context of one image and return its folder."""
    folder = _empty(root / "build/images" / recipe.name)
    _copy(root / recipe.dockerfile, folder / "Dockerfile")
    for name, path in inputs.files(root, recipe).items():
        _copy(path, folder / "src" / name)
    if recipe.requirements:
        # So that importlib.metadata knows the version inside the image too.
        metadata = folder / f"src/sluice-{version(root)}.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: sluice\nVersion: {version(root)}\n")
    if recipe.rootfs:
        rootfs.make(recipe.rootfs, folder / "rootfs.tar", architecture)
    if recipe.requirements:
        wheelhouse = root / "build/wheelhouse"
        wheels.fetch(root / recipe.requirements, wheelhouse, architecture)
        wheels.install(root / recipe.requirements, wheelhouse, folder / "lib", architecture, recipe.unused)
    if recipe.native:
        control.native(folder / "bin", architecture)
    if recipe.program:
        shutil.rmtree(folder / "src", ignore_errors=True)
        control.program(root / recipe.program, folder / "program", root, architecture)
    (folder / "state").mkdir()
    _settle(folder)
    return folder


def _one(recipe: Recipe, root: Path, architecture: str, base: str, anew: bool, say: Callable[[str], None]) -> Built:
    name = reference(recipe.name, root)
    wanted = inputs.digest(root, recipe, f"{base} {architecture} {version(root)}")
    stored = container_engine.inspect(name)
    fresh = anew or stored is None or stored.labels.get(INPUTS_LABEL) != wanted
    if fresh or stored is None:
        say(f"building {name}")
        folder = context(recipe, architecture, root)
        arguments = {"RUNTIME": reference(recipe.runtime, root)} if recipe.runtime else {}
        stored = container_engine.build(folder, name, {INPUTS_LABEL: wanted}, arguments)
    goal = recipe.goal_mb * 1_000_000 if recipe.goal_mb else None
    return Built(recipe.name, name, stored.digest, stored.size, goal, fresh)


def _base(root: Path, architecture: str, anew: bool, say: Callable[[str], None]) -> str:
    """The id of the base image; made from Debian packages unless one that is not ours is there."""
    stored = container_engine.inspect(BASE)
    if stored and INPUTS_LABEL not in stored.labels:
        return stored.digest
    wanted = inputs.base_digest(architecture)
    if stored and stored.labels[INPUTS_LABEL] == wanted and not anew:
        return stored.digest
    say(f"building {BASE} from Debian packages")
    folder = _empty(root / "build/images/base")
    _copy(Path(__file__).with_name("base.Dockerfile"), folder / "Dockerfile")
    rootfs.make(rootfs.PYTHON, folder / "rootfs.tar", architecture)
    _settle(folder)
    return container_engine.build(folder, BASE, {INPUTS_LABEL: wanted}, {}).digest


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise ImageError("file is missing", str(source), "check out the whole repository")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _settle(folder: Path) -> None:
    """Same modes and time stamps whoever built it, under whatever umask."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        loadable = path.is_dir() or ".so" in path.name or path.parent.name == "bin"
        path.chmod(0o755 if loadable else 0o644)
        os.utime(path, (_EPOCH, _EPOCH))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One builder at a time in a checkout: the context folders are shared."""
    folder = root / "build/images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
