"""``python -m orchestrator``: ``serve`` the centre, or print its ``openapi`` document."""

from __future__ import annotations

import argparse
import json
import sys

from manifests.errors import SluiceError
from orchestrator import settings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run until SIGTERM")
    settings.add_arguments(serving)
    commands.add_parser("openapi", help="print the OpenAPI document of the operator API; starts nothing")
    options = parser.parse_args(arguments)
    if options.command == "openapi":
        from orchestrator.api.operator import build_operator_app

        print(json.dumps(build_operator_app().openapi(), indent=2, sort_keys=True))
        return 0
    try:
        checked = settings.check(options)
        _serve(checked)
    except SluiceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _serve(checked: settings.Settings) -> None:
    import uvloop

    from orchestrator import app, logs

    logs.configure()
    uvloop.run(app.run(checked))


if __name__ == "__main__":
    sys.exit(main())
