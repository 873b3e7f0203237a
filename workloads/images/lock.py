"""Write the hash-pinned requirement files: one for development, one for each image.

Called by `python -m workloads.images lock`. The images' files are constrained by the development one, so
tests and images run the same versions. No file holds an index address: each machine has its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import which

from workloads.images import ImageError
from workloads.images.recipes import PYTHON_VERSION, RECIPES, Recipe

DEVELOPMENT = "tests/requirements.txt"

_COMMON = (
    "--quiet",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-annotate",
    "--custom-compile-command",
    "python -m workloads.images lock",
    "--python-version",
    PYTHON_VERSION,
    "--no-emit-package",
    "sluice",
)


def lock(root: Path, *, upgrade: bool = False, say: Callable[[str], None] = lambda text: None) -> list[str]:
    """Regenerate every requirement file and return their names. Raises ImageError.

    Versions that are already locked stay unless `upgrade` is set or pyproject.toml no longer allows them.
    """
    more = ["--upgrade"] if upgrade else []
    # Universal: a developer's machine may have a newer Python than the images.
    _compile(root, ["--universal", "--extra", "dev", "pyproject.toml", *more], DEVELOPMENT)
    say(DEVELOPMENT)
    written = [DEVELOPMENT]
    for recipe in RECIPES:
        if recipe.requirements is None:
            continue
        _compile(root, [*_wanted(recipe), "-c", DEVELOPMENT], recipe.requirements, "\n".join(recipe.packages))
        say(recipe.requirements)
        written.append(recipe.requirements)
    return written


def _wanted(recipe: Recipe) -> list[str]:
    if recipe.packages:
        return ["-"]
    return [*(part for extra in recipe.extras for part in ("--extra", extra)), "pyproject.toml"]


def _compile(root: Path, arguments: Sequence[str], target: str, text: str = "") -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    beside = Path(sys.executable).with_name("uv")
    tool = str(beside) if beside.exists() else which("uv")
    if tool is None:
        raise ImageError("uv is not installed", "lock", f"run `{sys.executable} -m pip install uv`")
    line = [tool, "pip", "compile", *_COMMON, *arguments, "-o", target]
    done = subprocess.run(line, cwd=root, input=text, capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"uv failed:\n{done.stderr.strip()[-2000:]}", target, "check pyproject.toml's extras")
