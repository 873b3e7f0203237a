"""Which image of an engine an artifact became: the container runtimes' memory on disk, and no authority."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from agent.ledger import write_atomic
from manifests.model import Artifact


class ImageMemory:
    """What is not signed is not run, whatever the file says: an image is the digest of its config or of its manifest,
    and both are signed."""

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
