"""``./run bench [PREFIX]``: one JSON object per measured figure.

Every module ``tests/bench/<area>_bench.py`` yields figures; ``PREFIXES`` says which keys, so that one area can be
measured alone. A module that cannot measure here says so on stderr and the run goes on; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from tests.bench.figure import Figure


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("prefix", nargs="?", default="", help="only keys that begin so, such as agent_")
    prefix: str = parser.parse_args().prefix
    failed = 0
    for path in sorted(Path(__file__).parent.glob("*_bench.py")):
        module = importlib.import_module(f"tests.bench.{path.stem}")
        if not any(known.startswith(prefix) or prefix.startswith(known) for known in module.PREFIXES):
            continue
        try:
            for figure in module.figures():
                assert isinstance(figure, Figure)
                if figure.key.startswith(prefix):
                    print(figure.json(), flush=True)
        except Exception:  # noqa: BLE001 - top of the loop: one area that fails becomes a report, the others are measured
            traceback.print_exc()
            print(f"{path.stem}: could not be measured", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
