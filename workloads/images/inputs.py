"""What an image is made of, and one hash over all of it: equal hash, nothing to build.

Called by `build`. Reads files, changes none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from workloads.images import ImageError
from workloads.images.recipes import Recipe

_BASE_BUILDER = ("rootfs.py", "elf.py", "base.Dockerfile")
_BUILDER = ("rootfs.py", "elf.py", "wheels.py", "build.py", "recipes.py")
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", ".svelte-kit", ".vite"})
_SKIPPED_FILES = frozenset({"Dockerfile", "requirements.txt"})


def files(root: Path, recipe: Recipe) -> dict[str, Path]:
    """The files copied into the image, by their path inside it. Raises ImageError when a source is missing."""
    found: dict[str, Path] = {}
    for source in recipe.sources:
        path = root / source
        if path.is_file():
            found[source] = path
        elif path.is_dir():
            found |= {file.relative_to(root).as_posix(): file for file in _walk(path)}
        else:
            raise ImageError("source is missing", source, "check out the whole repository")
    # Of the console only what its build made: sources and node modules have no business in an image.
    console = "orchestrator/console/"
    kept = {
        name: path for name, path in found.items() if not name.startswith(console) or name.startswith(console + "dist/")
    }
    unbuilt = (root / console / "package.json").is_file() and not (root / console / "dist/index.html").is_file()
    if recipe.name == "orchestrator" and unbuilt:
        raise ImageError("the console is not built", console + "dist", "run `./run setup`")
    return dict(sorted(kept.items()))


def digest(root: Path, recipe: Recipe, base: str) -> str:
    """SHA-256 over everything that decides the image's content; `base` names what it stands on."""
    parts = files(root, recipe)
    parts[recipe.dockerfile] = root / recipe.dockerfile
    if recipe.requirements:
        parts[recipe.requirements] = root / recipe.requirements
    total = _builder(base, _BUILDER)
    for name, path in sorted(parts.items()):
        if not path.is_file():
            raise ImageError("file is missing", name, "check out the whole repository")
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def base_digest(architecture: str) -> str:
    """The same for the locally made base image."""
    return _builder(architecture, _BASE_BUILDER).hexdigest()


def _builder(start: str, names: tuple[str, ...]) -> hashlib._Hash:
    """A hash that starts with the code that builds: a better trimmer rebuilds all."""
    total = hashlib.sha256(start.encode() + b"\0")
    for name in names:
        total.update(hashlib.sha256((Path(__file__).parent / name).read_bytes()).digest())
    return total


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in _SKIPPED_FOLDERS:
                yield from _walk(path)
        elif path.name not in _SKIPPED_FILES and path.suffix != ".pyc":
            yield path
