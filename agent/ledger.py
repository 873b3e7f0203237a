"""What an agent remembers across restarts, one small JSON file per noun, written so that a crash leaves old or new.

``write_atomic`` is used by everything in the agent that keeps a file. The ledger itself holds the desired state that
was adopted last: the agent boots from the signed metadata (``verify.TrustStore``, two copies) and falls back on the
ledger only when both are damaged, because a plant that stands still is the worse end.

The page carries no signature of the centre, so it is sealed: HMAC-SHA-256 (RFC 2104) with a key that was made on this
node and never leaves it. Only what was verified once is ever written, and a page with one changed byte, or of another
enrolment, is no page: a digit that a dying disk turned must not become a set-point. It does not stop whoever may write
the whole state folder; neither would the pinned roots, which lie beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from pathlib import Path

import msgspec

from agent.folders import clear_leftovers, disk_errors, write_file
from manifests.model import DesiredState

FILE_NAME = "ledger.json"
KEY_NAME = "ledger.key"
KEY_BYTES = 32


class LedgerPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is remembered."""

    desired: DesiredState | None = None
    format: str = "sluice.ledger/1"


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """As it lies on disk: the page's exact bytes and the seal over them."""

    page: msgspec.Raw
    seal: str


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` so that a crash at any moment leaves the old or the new content. Raises MachineError."""
    with disk_errors("cannot write", path):
        write_file(path, data, mode=mode)


class Ledger:
    """Read and written by the loop only. ``damaged`` after ``read``: there is a page, but not as it was written.

    ``enrolment`` names the site and the pinned roots: what was verified against others is not ours to run.
    """

    def __init__(self, folder: Path, enrolment: str = "") -> None:
        self._enrolment = enrolment.encode()
        self._path = folder / FILE_NAME
        self._key_path = folder / KEY_NAME
        self.damaged = False
        clear_leftovers(self._path)

    def read(self) -> LedgerPage:
        """An empty page when there is none, or when it cannot be believed: a second copy, never a reason to stop."""
        self.damaged = False
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return LedgerPage()
        except OSError:
            self.damaged = True
            return LedgerPage()
        with contextlib.suppress(OSError, ValueError):  # ValueError: msgspec's errors and UnicodeDecodeError
            found = msgspec.json.decode(data, type=_Sealed)
            seal = self._seal(self._key_path.read_bytes(), bytes(found.page))
            if seal and hmac.compare_digest(found.seal.encode(), seal.encode()):
                return msgspec.json.decode(found.page, type=LedgerPage)
        self.damaged = True
        return LedgerPage()

    def write(self, page: LedgerPage) -> None:
        """Raises MachineError when the disk refuses."""
        data = msgspec.json.encode(page)
        write_atomic(
            self._path, msgspec.json.encode(_Sealed(page=msgspec.Raw(data), seal=self._seal(self._own_key(), data)))
        )

    def _own_key(self) -> bytes:
        with disk_errors("cannot keep the ledger's key", self._key_path):
            try:
                key = self._key_path.read_bytes()
            except FileNotFoundError:
                key = b""
            if len(key) != KEY_BYTES:
                key = secrets.token_bytes(KEY_BYTES)
                write_file(self._key_path, key, mode=0o600)
            self._key_path.chmod(0o600)  # copied back from a backup it may have become readable
        return key

    def _seal(self, key: bytes, data: bytes) -> str:
        """Empty without a key of the right length, which never matches."""
        if len(key) != KEY_BYTES:
            return ""
        return hmac.new(key, hashlib.sha256(self._enrolment).digest() + data, hashlib.sha256).hexdigest()
