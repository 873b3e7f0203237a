"""What every simulator process has in common: its log, its ready line, how it is stopped.

Called by the simulators' `main`. A simulator prints exactly one line to standard output, `ready: <protocol>
<where>`, once it answers; everything else is log on standard error. SIGTERM and SIGINT end it with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable


def add_log_option(parser: argparse.ArgumentParser) -> None:
    """The option every simulator takes."""
    parser.add_argument(
        "--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="(default: %(default)s)"
    )


def start_log(level: str) -> None:
    """Log to standard error: standard output carries the ready line only."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def say_ready(protocol: str, where: str) -> None:
    """Tell whoever started us that requests are answered from now on."""
    print(f"ready: {protocol} {where}", flush=True)


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets. Call it inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def give_back_memory() -> None:
    """Return what start-up has freed to the system; glibc keeps it otherwise. Does nothing where it cannot."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


async def keep_time(tick: Callable[[], Awaitable[None]], period_s: float, stop: asyncio.Event) -> None:
    """Call `tick` once per period until `stop` is set, on deadlines that do not drift.

    A late tick is made up for, so that the number of ticks is the time divided by the period; after more than a
    minute asleep (a suspended machine) the missed ticks are given up instead of replayed in a burst.
    """
    deadline = time.monotonic() + period_s
    while not stop.is_set():
        pause = deadline - time.monotonic()
        if pause > 0:
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                pass
            continue
        if pause < -60:
            deadline = time.monotonic()
        await tick()
        deadline += period_s


def port_number(text: str) -> int:
    """An argparse type: a TCP port, 0 for any free one."""
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a TCP port: give 0 (any free port) to 65535")
    return port


def positive(text: str) -> float:
    """An argparse type: a number above zero."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return number


def positive_whole(text: str) -> int:
    """An argparse type: a whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")
    return number
