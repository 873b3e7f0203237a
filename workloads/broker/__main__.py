"""``python -m workloads.broker``: mosquitto where there is no container, on the port of the configuration.

Started by the process runtime; a container runs mosquitto directly. Becomes mosquitto (exec), so that the agent's
signals and the exit code are the broker's own. Needed because mosquitto ignores ``-p`` when it is given a file. Listens
on loopback only: in this runtime every neighbour is there.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from manifests.errors import SluiceError
from workloads.broker.config import BrokerConfig, on_port
from workloads.kit.config import parse
from workloads.kit.context import load_context, run_folder


def main() -> None:
    try:
        config = parse(load_context(run_folder()).config, BrokerConfig)
    except SluiceError as error:
        sys.exit(f"broker: {error}")
    text = on_port(Path(__file__).with_name("mosquitto.conf").read_text(encoding="utf-8"), config.port)
    # A file without a name: nothing to clean up, whatever ends us; SIGHUP still reads it again.
    descriptor = os.memfd_create("mosquitto.conf", 0)
    os.write(descriptor, text.encode())
    try:
        # Debian keeps it in /usr/sbin, which is not on everybody's path.
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        os.execv(program, ["mosquitto", "-c", f"/proc/self/fd/{descriptor}"])
    except OSError as error:
        sys.exit(f"broker: cannot start mosquitto: {error}; install the package mosquitto on this machine")


if __name__ == "__main__":
    main()
