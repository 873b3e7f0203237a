"""A pump skid behind Modbus TCP: the machine of the demo's first plant, and of the fault tests.

Run as `python -m tests.simulators.pump_skid`. The physics is in `pump_physics`, the register map in
`pump_registers` (documented in `pump_skid.md`); the server is `modbus_server`. SIGUSR1 makes the skid go silent while
its TCP connections stay up and the machine runs on - a device that has lost its field side; SIGUSR2 lets it
answer again. Requests that came in meanwhile are lost, never answered late.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from tests.simulators import process
from tests.simulators.modbus_server import MachineServer
from tests.simulators.pump_physics import Commands, PumpSkid
from tests.simulators.pump_registers import RegisterImage, markdown

log = logging.getLogger("pump_skid")


async def serve(options: argparse.Namespace) -> None:
    """Run the skid until SIGTERM."""
    stop = process.stop_event()
    skid = PumpSkid(options.seed, Commands(run=not options.stopped))
    image = RegisterImage(skid, options.tick, options.speed)
    server = MachineServer(image, options.unit, (options.host, options.port))

    def silence(silent: bool) -> None:
        server.silent = silent
        log.warning("the skid is silent" if silent else "the skid answers again")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, silence, True)
    loop.add_signal_handler(signal.SIGUSR2, silence, False)

    async def tick() -> None:
        image.tick()

    try:
        await server.serve_forever(background=True)
    except RuntimeError as refused:
        raise SystemExit(
            f"pump_skid: cannot listen on {options.host}:{options.port}; is the port taken? Give another --port."
        ) from refused
    process.say_ready("modbus tcp", f"{options.host}:{server.bound_port()}")
    await process.keep_time(tick, options.tick / 1000, stop)
    await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no types here


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulators.pump_skid",
        description="A simulated pump skid behind a Modbus TCP server.",
        epilog="Signals: SIGTERM stops; SIGUSR1 makes it fall silent, connections kept; SIGUSR2 makes it answer again.",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=process.port_number, default=5020, help="0 takes any free port (default: %(default)s)"
    )
    parser.add_argument("--unit", type=int, default=1, choices=range(1, 248), metavar="1..247", help="unit identifier")
    parser.add_argument("--seed", type=int, default=1, help="of the noise and the demand (default: %(default)s)")
    parser.add_argument(
        "--speed", type=process.positive, default=1.0, help="simulated seconds per second (default: %(default)s)"
    )
    parser.add_argument(
        "--tick", type=process.positive_whole, default=100, metavar="MS", help="period of the counter (default: 100)"
    )
    parser.add_argument("--stopped", action="store_true", help="begin with the run command off")
    parser.add_argument("--registers", action="store_true", help="print the register map as Markdown and end")
    process.add_log_option(parser)
    return parser


def main() -> None:
    """Parse, then serve."""
    options = arguments().parse_args()
    if options.registers:
        print(markdown(), end="")
        return
    process.start_log(options.log_level)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
