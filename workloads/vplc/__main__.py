"""``python -m workloads.vplc``: without a command what the agent starts; the commands are for those who make releases.

python -m workloads.vplc PROGRAM                     start: check, then become the keeper
python -m workloads.vplc telemetry PROGRAM           what the keeper starts beside the scan host
python -m workloads.vplc pack CONTROL.yaml -o FOLDER compile and check a program for a release
python -m workloads.vplc native -o FOLDER            the native programs for a process archive
python -m workloads.vplc schema PROGRAM              the configSchema of its workload document, as YAML
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from manifests.errors import SluiceError
from vplc.scan.errors import ScanError
from workloads.kit import log as logs
from workloads.kit.service import main as serve
from workloads.vplc.config import VplcConfig


def main(arguments: list[str]) -> int:
    commands = {"telemetry": _telemetry, "pack": _pack, "native": _native, "schema": _schema}
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:])
        return _start(arguments)
    except (SluiceError, ScanError) as error:
        print(error, file=sys.stderr)
        return 1


def _start(arguments: list[str]) -> int:
    from workloads.vplc.start import become_keeper

    parser = argparse.ArgumentParser(prog="workloads.vplc", description=__doc__)
    parser.add_argument("program", type=Path, help="folder that pack made")
    logs.set_up()
    become_keeper(parser.parse_args(arguments).program.absolute())
    return 1


def _telemetry(arguments: list[str]) -> int:
    from workloads.vplc.monitor import VplcMonitor

    parser = argparse.ArgumentParser(prog="workloads.vplc telemetry")
    parser.add_argument("program", type=Path)
    folder = parser.parse_args(arguments).program
    serve("vplc", VplcConfig, lambda config: (), functools.partial(VplcMonitor, folder=folder))
    return 0


def _pack(arguments: list[str]) -> int:
    from workloads.vplc.pack import pack

    parser = argparse.ArgumentParser(prog="workloads.vplc pack")
    parser.add_argument("document", type=Path)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--target", default="x86-64")
    options = parser.parse_args(arguments)
    print(f"{pack(options.document, options.out, options.target).name}: {options.out}")
    return 0


def _native(arguments: list[str]) -> int:
    from workloads.vplc.build import build

    parser = argparse.ArgumentParser(prog="workloads.vplc native")
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--target", default="x86-64")
    options = parser.parse_args(arguments)
    build(options.out, options.target)
    return 0


def _schema(arguments: list[str]) -> int:
    import yaml

    from vplc.scan.layout import load
    from workloads.vplc.config import schema
    from workloads.vplc.program import LAYOUT_NAME, read

    parser = argparse.ArgumentParser(prog="workloads.vplc schema")
    parser.add_argument("program", type=Path)
    folder = parser.parse_args(arguments).program
    print(yaml.safe_dump(schema(read(folder), load(folder / LAYOUT_NAME)), sort_keys=False, allow_unicode=True), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
