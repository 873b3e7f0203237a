"""The node's store of content-addressed blobs: image layers, configs, manifests, process archives.

Called by the loop before anything is started, and for cleaning up. A blob is in the store only complete, synced and
with the right SHA-256; parts lie in a folder of their own and are resumed with Range. It refuses to take more bytes
than were signed for, and to fill the disk to its end: the buffer of acknowledged samples lives there too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from agent.folders import disk_errors, sync_folder
from manifests.errors import MachineError, TrustError, UnreachableError
from manifests.model import Blob

RESERVE_BYTES = 64 << 20  # left to others on the disk
MIN_RATE_BYTES_S = 2_000  # a 16 kbit/s line; slower is an attack or a dead line, and the part is kept
GRACE_S = 30.0  # before the rate is judged
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK = 1 << 20


class Stream(Protocol):
    """Bytes of a blob from ``offset`` on."""

    @property
    def offset(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


class Source(Protocol):
    """What is needed of ``OrchestratorClient``."""

    def get_blob(self, digest: str, offset: int = 0, *, deadline_s: float = ...) -> AbstractContextManager[Stream]: ...


class BlobStore:
    """``folder`` holds ``sha256/<hex>`` and ``parts/<hex>``. Usable from several threads; one process."""

    def __init__(
        self,
        folder: Path,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        min_rate_bytes_s: float = MIN_RATE_BYTES_S,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._whole = folder / "sha256"
        self._parts = folder / "parts"
        self._reserve_bytes = reserve_bytes
        self._min_rate_bytes_s = min_rate_bytes_s
        self._grace_s = grace_s
        self._clock = clock
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()
        with disk_errors("cannot make the blob folder", folder):
            for made in (self._whole, self._parts):
                made.mkdir(mode=0o755, parents=True, exist_ok=True)

    def has(self, digest: str) -> bool:
        return (self._whole / _hex(digest)).is_file()

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._whole / _hex(digest)

    def verify(self, digest: str) -> bool:
        """Hash it again; a blob that changed on disk is removed, so that it is fetched anew."""
        path = self.path(digest)
        with disk_errors("cannot read the blob", path):
            if not path.is_file():
                return False
            if _hash_file(path).hexdigest() == _hex(digest):
                return True
            path.unlink()
            return False

    def fetch(self, client: Source, blob: Blob) -> Path:
        """The blob's file, fetched if it is not here. Blocks; going on where an earlier attempt was cut.

        Raises UnreachableError (cut, too slow, no such blob; what came is kept), TrustError (``bad-digest``,
        ``oversized``; what came is removed), MachineError (disk full; what came is removed).
        """
        name = _hex(blob.digest)
        with self._one_at_a_time(name):
            path = self._whole / name
            if path.is_file():
                return path
            part = self._parts / name
            with self._disk(part):
                size = part.stat().st_size if part.exists() else 0
                if size > blob.size:
                    part.unlink()
                    size = 0
                free = shutil.disk_usage(self._parts).free
                if free < blob.size - size + self._reserve_bytes:
                    part.unlink(missing_ok=True)
                    raise MachineError(
                        f"not enough disk: {blob.size - size} bytes to come, {free} free of which "
                        f"{self._reserve_bytes} are kept for others",
                        where=str(self._parts),
                        remedy="free some space",
                    )
            if size < blob.size or blob.size == 0:
                self._receive(client, blob, part, size)
            self._finish(blob, part, path)
            return path

    def forget_except(self, digests: Iterable[str]) -> int:
        """Remove every other blob and part; returns how many bytes that freed."""
        keep = {_hex(digest) for digest in digests}
        freed = 0
        with disk_errors("cannot remove blobs", self._whole):
            for folder in (self._whole, self._parts):
                for path in folder.iterdir():
                    if path.name in keep:
                        continue
                    with self._one_at_a_time(path.name):
                        freed += path.stat().st_size if path.exists() else 0
                        path.unlink(missing_ok=True)
        return freed

    def _receive(self, client: Source, blob: Blob, part: Path, size: int) -> None:
        begun = self._clock()
        received = 0  # of this attempt only: resumed bytes would flatter the rate
        deadline_s = self._grace_s + (blob.size - size) / self._min_rate_bytes_s + 60.0
        with client.get_blob(blob.digest, size, deadline_s=deadline_s) as stream:
            if stream.offset > size:
                raise TrustError("the answer leaves a hole", kind="malformed", where=blob.digest)
            with self._disk(part):
                file = part.open("r+b" if part.exists() else "w+b")
            with file:
                with self._disk(part):
                    file.seek(stream.offset)
                    file.truncate()
                total = stream.offset
                for chunk in stream:
                    total += len(chunk)
                    received += len(chunk)
                    if total > blob.size:
                        part.unlink(missing_ok=True)
                        raise TrustError(f"more than the signed {blob.size} bytes", kind="oversized", where=blob.digest)
                    with self._disk(part):
                        file.write(chunk)
                    spent_s = self._clock() - begun
                    if spent_s > self._grace_s and received < self._min_rate_bytes_s * spent_s:
                        rate = received / spent_s
                        raise UnreachableError(
                            f"too slow: {rate:.0f} bytes/s over {spent_s:.0f} s, at least "
                            f"{self._min_rate_bytes_s:.0f} are expected",
                            where=blob.digest,
                        )
                with self._disk(part):
                    file.flush()
                    os.fsync(file.fileno())
        if total < blob.size:
            raise UnreachableError(f"cut after {total} of {blob.size} bytes", where=blob.digest)

    def _finish(self, blob: Blob, part: Path, path: Path) -> None:
        with self._disk(part):
            # Hashed from the disk, not from the line: a resumed part, and what the disk made of it, count too.
            if _hash_file(part).hexdigest() != _hex(blob.digest):
                part.unlink(missing_ok=True)
                raise TrustError("the bytes are not the signed ones", kind="bad-digest", where=blob.digest)
            part.chmod(0o644)
            part.replace(path)
            sync_folder(self._whole)

    @contextmanager
    def _disk(self, part: Path) -> Iterator[None]:
        try:
            with disk_errors("cannot store the blob", part):
                yield
        except MachineError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
                part.unlink(missing_ok=True)
            raise

    @contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        with self._locks_lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            yield


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise TrustError("not a SHA-256 digest", kind="bad-digest", where=repr(digest[:100]))
    return match[1]


def _hash_file(path: Path) -> hashlib._Hash:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")
