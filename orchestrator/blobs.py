"""Content-addressed files of the centre: releases, image layers, process archives.

A blob appears under its digest only once all its bytes were hashed and synced; a broken upload leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread

from manifests.errors import DocumentError, MachineError, Problem

MAX_BLOB_BYTES = 8 << 30
_FLUSH_BYTES = 1 << 20


class TooLargeError(Exception):
    """More bytes than a blob may have."""


class BlobFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sha256"
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob("*.part"):
            leftover.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """``digest`` with or without ``sha256:``; the caller has checked that the rest is hex."""
        return self._folder / digest.removeprefix("sha256:")

    def size(self, digest: str) -> int | None:
        """Bytes, or None when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, limit: int) -> bytes | None:
        size = self.size(digest)
        return None if size is None or size > limit else self.path(digest).read_bytes()

    async def put(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Store what ``chunks`` yields. Raises DocumentError when it is not ``digest``, TooLargeError, MachineError."""
        wanted = digest.removeprefix("sha256:")
        part = self._folder / f"{wanted}.{secrets.token_hex(8)}.part"
        seen = hashlib.sha256()
        total = 0
        try:
            with part.open("wb") as file:
                waiting = bytearray()

                def flush() -> None:
                    seen.update(waiting)
                    file.write(waiting)
                    waiting.clear()

                async for chunk in chunks:
                    total += len(chunk)
                    if total > MAX_BLOB_BYTES:
                        raise TooLargeError
                    waiting += chunk
                    if len(waiting) >= _FLUSH_BYTES:
                        await anyio.to_thread.run_sync(flush)
                flush()
                if seen.hexdigest() != wanted:
                    what = f"the bytes sent have the digest sha256:{seen.hexdigest()}"
                    raise DocumentError([Problem("blob", f"sha256:{wanted}", what, "send it again")])
                file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
            part.rename(self.path(wanted))
        except OSError as error:
            raise MachineError(f"cannot store the blob: {error.strerror}", remedy="free some space") from error
        finally:
            part.unlink(missing_ok=True)
