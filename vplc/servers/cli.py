"""`python -m vplc.servers`: serve a running program, or make the hash of a password.

Exit codes: 0 stopped as asked, 1 refused, 2 the command line is wrong. Never a traceback. A host that does not run is
no error: the server waits for it and says so to its clients.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import signal
import sys
from pathlib import Path

from vplc.scan.errors import ScanError
from vplc.servers import configuration


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vplc.servers", description="Serves the variables of a running program.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("opcua", "OPC UA with the PLCopen information model."),
        ("modbus", "Modbus TCP for %%I, %%Q and %%M."),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("folder", metavar="RUNFOLDER", type=Path, help="of the scan host, such as /dev/shm/vplc-tank")
        sub.add_argument("configuration", metavar="SERVER.json", type=Path)
        sub.add_argument("--check", action="store_true", help="say what is wrong with the configuration and end")
        sub.add_argument("--log-level", default="WARNING", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    commands.add_parser("password", help="Hash a password, read from the terminal or the first line of standard input.")
    return parser


def main(argv: list[str]) -> int:
    options = arguments().parse_args(argv)
    if options.command == "password":
        return _password()
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return asyncio.run(_serve(options))
    except ScanError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


async def _serve(options: argparse.Namespace) -> int:
    where: Path = options.configuration
    data = configuration.load(where)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.command == "modbus":
        from vplc.servers.modbus.server import serve as serve_modbus

        settings = configuration.modbus(data, str(where))
        return 0 if options.check else await serve_modbus(options.folder, settings, str(where), stop, ready)
    name = options.folder.name.removeprefix("vplc-") or "vplc"
    chosen = configuration.opcua(data, str(where), where.parent, name)
    if options.check:
        return 0
    # Imported late: the library takes a second and 80 MB that Modbus does not need.
    from vplc.servers.opcua.server import serve as serve_opcua

    return await serve_opcua(options.folder, chosen, str(where), stop, ready)


def ready(what: str, host: str, port: int) -> None:
    """The line that supervisors and tests wait for."""
    sys.stdout.write(f"ready: {what} on {host}:{port}\n")
    sys.stdout.flush()


def _password() -> int:
    from argon2 import PasswordHasher

    text = getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not text:
        sys.stderr.write("the password is empty\n")
        return 1
    sys.stdout.write(PasswordHasher().hash(text) + "\n")
    return 0
