"""What every container of ours is given, whichever engine runs it: users, capabilities, folders; and which image it is.

The container runtimes share it, so that a workload cannot tell Docker from Kubernetes. It talks to no engine.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

import msgspec

from agent.ledger import write_atomic
from manifests.model import Artifact

RUN_FOLDER = "/run/sluice"
SHARED_FOLDER = "/run/shared"
KEPT_FOLDER = "/run/kept"
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


class ImageMemory:
    """Which image of the engine an artifact became, on disk. Only a memory: what is not signed is not run, whatever the
    file says. ``image`` is the digest of the image's config or of its manifest, both signed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._images = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError):
            self._images = {}

    def image(self, artifact: Artifact | None) -> str | None:
        if artifact is None:
            return None
        known = self._images.get(artifact.root.digest)
        signed = {artifact.root.digest, *(blob.digest for blob in artifact.blobs)}
        return known if known in signed else None

    def remember(self, root: str, image: str) -> None:
        """Raises MachineError when the disk refuses."""
        self._images[root] = image
        write_atomic(self._path, msgspec.json.encode(self._images))

    def others(self, roots: Collection[str]) -> list[tuple[str, str]]:
        """(root, image) of all that ``roots`` does not name."""
        return [(root, image) for root, image in self._images.items() if root not in roots]

    def forget(self, root: str) -> None:
        if self._images.pop(root, None) is not None:
            write_atomic(self._path, msgspec.json.encode(self._images))
