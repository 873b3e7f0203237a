"""The agent, told to be killed with SIGKILL at the n-th pass of one line: ``dying_agent.py POINT COUNT ARGUMENTS``.

The product knows nothing of this: each point wraps one function where a crash would be worst.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def wrap(owner: Any, name: str, count: int, *, after: bool) -> None:
    real: Callable[..., Any] = getattr(owner, name)
    left = [count]

    @functools.wraps(real)
    def dying(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not after and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if after and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


def arm(point: str, count: int) -> None:
    import subprocess

    from agent import folders
    from agent.blobs import BlobStore
    from agent.buffer import Buffer
    from agent.ledger import Ledger
    from agent.runtimes.process import ProcessRuntime
    from agent.verify import TrustStore

    owners: dict[str, tuple[Any, str]] = {
        "fetch": (BlobStore, "fetch"),
        "activate": (TrustStore, "activate"),
        "ledger": (Ledger, "write"),
        "record": (ProcessRuntime, "_write"),
        "spawn": (subprocess, "Popen"),
        "stop": (ProcessRuntime, "stop"),
        "remove": (ProcessRuntime, "remove"),
        "unpack": (ProcessRuntime, "pull"),
        "append": (Buffer, "append"),
        "confirm": (Buffer, "confirm"),
        "swap": (folders, "swap_folder"),
    }
    when, _, what = point.partition("-")
    owner, name = owners[what]
    wrap(owner, name, count, after=when == "after")


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    from agent.cli import main

    sys.exit(main(sys.argv[3:]))
