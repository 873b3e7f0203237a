"""What every container of ours is given, whichever engine runs it: users, capabilities, folders.

The container runtimes share it, so that a workload cannot tell Docker from Kubernetes. It talks to no engine.
"""

from __future__ import annotations

import platform
from pathlib import Path

RUN_FOLDER = "/run/sluice"
SHARED_FOLDER = "/run/shared"
KEPT_FOLDER = "/run/kept"
SECRETS_FOLDER = "/run/secrets"
PAIR_FOLDER = "/run/pair"
USER_ID = 10001
# The capabilities to set a priority and to lock memory, and those to pass them on to a user that is not root: class
# control starts as root, its entry point gives them on and drops the rest.
CONTROL_CAPABILITIES = ("SYS_NICE", "IPC_LOCK", "SETUID", "SETGID", "SETPCAP")
# Where it exists (cgroup v1), a container may run at real-time priority within its group's share only.
RT_FILE = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "armv7l": "linux/arm/v7", "riscv64": "linux/riscv64"}


def container_platform() -> str:
    """Which artifacts this machine's containers run: ``linux/amd64``."""
    return _PLATFORMS.get(platform.machine(), f"linux/{platform.machine()}")
