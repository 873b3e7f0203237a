"""Seals the secrets of second factors, so that a copied database alone gives nobody a code. For ``Access`` and
``Accounts``.

AES-256-GCM with a random nonce; the account's name is authenticated with it, so that a row moved to another account
opens nothing. The key lies among the online keys, never in the database. Refuses to make a new key where secrets were
sealed with one that is gone: that is a key folder put back incompletely, and a new key would lock those people out.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manifests.errors import MachineError
from manifests.keys import write_private
from orchestrator.people import totp
from orchestrator.store import Store, accounts

KEY_NAME = "second-factors.key"
KEY_BYTES = 32
_MARK = "v1."  # no base32 text has a point
_NONCE_BYTES = 12  # NIST SP 800-38D; random is right far below 2**32 secrets


class Sealer:
    """``keys``: the folder of the online keys. Its file is read, or made, when it is first needed."""

    def __init__(self, keys: Path) -> None:
        self._path = keys / KEY_NAME
        self._key: bytes | None = None

    def seal(self, user: str, secret: bytes) -> str:
        """Raises MachineError when the key can neither be read nor made."""
        if not self._path.exists():
            self._make()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(self._read()).encrypt(nonce, secret, _context(user))
        return _MARK + base64.b64encode(sealed).decode()

    def open(self, user: str, sealed: str) -> bytes | None:
        """None when it was sealed with another key, or for another account. Raises MachineError without a key."""
        try:
            data = base64.b64decode(sealed.removeprefix(_MARK), validate=True)
            return AESGCM(self._read()).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _context(user))
        except (InvalidTag, ValueError, binascii.Error):
            return None

    def _read(self) -> bytes:
        if self._key is None:
            try:
                found = self._path.read_bytes()
            except OSError as error:
                remedy = (
                    "bring it back from the backup of the online keys; when it is lost for ever put 32 new random "
                    "bytes there, and people log in with a recovery code or are reset (sluice user reset)"
                )
                what = f"cannot read the key of the second factors: {error.strerror}"
                raise MachineError(what, where=str(self._path), remedy=remedy) from error
            if len(found) != KEY_BYTES:
                raise MachineError(f"not a key of {KEY_BYTES} bytes", where=str(self._path))
            self._key = found
        return self._key

    def _make(self) -> None:
        try:
            write_private(self._path, os.urandom(KEY_BYTES))
        except FileExistsError:
            return  # made by another thread meanwhile
        except OSError as error:
            what = f"cannot make the key of the second factors: {error.strerror}"
            remedy = "make it once, with 32 random bytes that only the orchestrator can read"
            raise MachineError(what, where=str(self._path), remedy=remedy) from error


def prepare(store: Store, sealer: Sealer) -> int:
    """At start: seal what an older version kept in clear, and see that the key of the rest is there; gives how many
    were sealed. Raises MachineError."""
    with store.read() as conn:
        kept = accounts.second_factors(conn)
    clear = {user: secret for user, secret in kept.items() if not secret.startswith(_MARK)}
    for user, secret in kept.items():
        if user not in clear:
            sealer.open(user, secret)  # there is a key; whose it is shows when a code is tried
            break
    if clear:
        with store.write(erase=True) as conn:
            for user, secret in clear.items():
                accounts.replace_second_factor(conn, user, secret, sealer.seal(user, totp.from_text(secret)))
        store.empty_log()
    return len(clear)


def _context(user: str) -> bytes:
    return f"sluice/second-factor/v1|{user}".encode()
