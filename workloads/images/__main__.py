"""`python -m workloads.images`: build the images, or write the requirement files they install.

Called by `./run images`. Reports go to standard output (a table, or JSON), progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from workloads.images import ImageError, container_engine
from workloads.images.build import INPUTS_LABEL, ROOT, Built, build, context
from workloads.images.lock import lock
from workloads.images.recipes import BASE, RECIPES, named


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when an image misses its size goal, 2 when one cannot be made."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "lock":
            lock(ROOT, upgrade=options.upgrade, say=print)
            return 0
        if options.command == "context":
            print(context(named(options.name), container_engine.architecture()))
            return 0
        recipes = [named(name) for name in options.only] if options.only else list(RECIPES)
        rows = build(recipes, anew=options.anew, say=lambda text: print(text, file=sys.stderr, flush=True))
    except ImageError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(table(rows))
        _explain_base()
    return 1 if any(row.goal and row.size >= row.goal for row in rows) else 0


def table(rows: Sequence[Built]) -> str:
    """The images for people, sizes in MB (10^6 bytes), base included."""
    lines = [f"{'image':<28}{'size MB':>9}{'goal MB':>9}  digest"]
    for row in rows:
        goal = f"< {row.goal / 1e6:.0f}" if row.goal else "-"
        verdict = "" if not row.goal or row.size < row.goal else "  TOO LARGE"
        lines.append(f"{row.reference:<28}{row.size / 1e6:>9.1f}{goal:>9}  {row.digest[:19]}{verdict}")
    return "\n".join(lines)


def _explain_base() -> None:
    base = container_engine.inspect(BASE)
    if base:
        origin = "made here" if INPUTS_LABEL in base.labels else "not made here: remove it to get the trimmed one"
        print(f"base included: {BASE}, {base.size / 1e6:.1f} MB, {origin}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workloads.images", description=__doc__)
    names = [recipe.name for recipe in RECIPES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="just this image")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--anew", action="store_true", help="build all again, with the newest Debian packages")
    parser.set_defaults(command="build")
    commands = parser.add_subparsers(metavar="COMMAND")
    locking = commands.add_parser("lock", help="write the hash-pinned requirement files (needs uv)")
    locking.add_argument("--upgrade", action="store_true", help="move to the newest versions allowed")
    locking.set_defaults(command="lock")
    preparing = commands.add_parser("context", help="prepare the folder for a `docker build` of your own")
    preparing.add_argument("name", choices=names)
    preparing.set_defaults(command="context")
    return parser


if __name__ == "__main__":
    sys.exit(main())
