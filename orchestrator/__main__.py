"""``python -m orchestrator``: ``serve`` the centre, or print its ``openapi`` document."""

from __future__ import annotations

import argparse
import json
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("openapi", help="print the OpenAPI document of the operator API; starts nothing")
    options = parser.parse_args(arguments)
    if options.command == "openapi":
        from orchestrator.api.operator import build_operator_app

        print(json.dumps(build_operator_app().openapi(), indent=2, sort_keys=True))
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main())
