"""`python -m vplc.plcopen FILE [--json] [-o OUT.st]`: a PLCopen project as Structured Text.

Without -o the text goes to the standard output and what was not taken to the standard error. Exit 0: all logic
was taken; 1: some was not, or the file is wrong; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vplc.plcopen import Imported, load


def report(imported: Imported) -> dict[str, Any]:
    """The outcome for --json: `map` holds [ST line, XML line, POU, element]."""
    return {
        "file": imported.name,
        "complete": imported.complete,
        "st": imported.st_text,
        "map": [[i + 1, p.line, p.pou, p.what] for i, p in enumerate(imported.source_map.places)],
        "not_taken": [
            {"line": n.place.line, "pou": n.place.pou, "element": n.place.what, "why": n.why, "logic": n.logic}
            for n in imported.not_taken
        ],
        "problems": [
            {"line": p.line, "column": p.column, "what": p.what, "remedy": p.remedy} for p in imported.problems
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vplc.plcopen", description="PLCopen XML to Structured Text")
    parser.add_argument("file", metavar="FILE", help="PLCopen TC6 2.00/2.01 or IEC 61131-10 XML")
    parser.add_argument("--json", action="store_true", help="one JSON object on the standard output")
    parser.add_argument("-o", metavar="OUT.st", dest="out", help="write the Structured Text to this file")
    options = parser.parse_args(arguments)
    try:
        imported = load(options.file)
        if options.out and not imported.problems:
            Path(options.out).write_text(imported.st_text, encoding="utf-8")
    except OSError as e:
        print(f"{e.filename or options.file}: {e.strerror or e}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report(imported), indent=1))
    elif not options.out:
        sys.stdout.write(imported.st_text)
    for p in imported.problems:
        hint = f"\nhint: {p.remedy}" if p.remedy else ""
        print(f"{imported.name}:{p.line}:{p.column}  {p.what}{hint}", file=sys.stderr)
    for n in imported.not_taken:
        kind = "not taken" if n.logic else "left out"
        where = ", ".join(part for part in (n.place.pou, n.place.what) if part)
        print(f"{imported.name}:{n.place.line}  {where}\n{kind}: {n.why}", file=sys.stderr)
    return 0 if imported.complete else 1


if __name__ == "__main__":
    sys.exit(main())
