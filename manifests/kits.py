"""A signer's kit: a folder with the keys of one person, or of one small plant, and what may be known of them.

Each key has a ``NAME.pub.json`` (public: may be mailed, printed, compared aloud) and either ``NAME.pem`` beside it or a
``pkcs11`` entry that says in which token it lives. What a key may sign is not written here but in the signed
delegations, so a kit cannot promote itself. Private keys are opened only when something is signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from manifests import keys
from manifests.errors import MachineError, TrustError

PUBLIC_SUFFIX = ".pub.json"
MAX_PUBLIC_BYTES = 16 << 10
Secret = Callable[[str], str]  # asked with what it is for: a passphrase or a PIN


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a key lives in hardware (PKCS#11): ``module`` is the maker's library, ``keyid`` the object's CKA_ID."""

    module: str
    keyid: int
    label: str = ""


class PublicFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``NAME.pub.json``."""

    name: str
    key: dict[str, Any]  # TUF's own form: keytype, scheme, keyval
    keyid: str
    pkcs11: Token | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One key of a kit."""

    name: str
    key: Key
    private: Path
    token: Token | None

    def signer(self, secret: Secret) -> Signer:
        """Opens the private key. Raises TrustError (``bad-key``, ``passphrase``), MachineError."""
        if self.token is not None:
            return _token_signer(self, self.token, secret)
        data = keys.read_key_file(self.private)
        passphrase = secret(f"passphrase of {self.private.name}") if keys.is_protected(data) else None
        private = keys.load_key(data, passphrase, where=str(self.private))
        if not isinstance(private, Ed25519PrivateKey):
            raise TrustError("not a signing key", kind="bad-key", where=str(self.private))
        signer = CryptoSigner(private)
        if signer.public_key.keyid != self.key.keyid:
            what = f"is not the private half of {self.name}{PUBLIC_SUFFIX}"
            raise TrustError(what, kind="bad-key", where=str(self.private))
        return signer


class Kit:
    """All keys of one or several folders."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)

    @classmethod
    def open(cls, folders: Sequence[Path]) -> Kit:
        """Raises MachineError when a folder cannot be read or holds no key, TrustError for a damaged public file."""
        members: list[Member] = []
        for folder in folders:
            try:
                found = sorted(path for path in folder.iterdir() if path.name.endswith(PUBLIC_SUFFIX))
            except OSError as error:
                raise MachineError(f"cannot read the kit: {error.strerror}", where=str(folder)) from error
            if not found:
                remedy = "name a folder that `sluice keys init` or `sluice keys new` made"
                raise MachineError(f"holds no *{PUBLIC_SUFFIX}", where=str(folder), remedy=remedy)
            members.extend(read_member(path) for path in found)
        return cls(members)

    def keyids(self) -> frozenset[str]:
        return frozenset(member.key.keyid for member in self.members)

    def signers(self, keyids: Collection[str], secret: Secret) -> list[Signer]:
        """The signers among these keys that are here; each key is opened once."""
        return [member.signer(secret) for member in self.members if member.key.keyid in keyids]


def read_member(path: Path) -> Member:
    """Raises MachineError, TrustError (``bad-key``)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read: {error.strerror}", where=str(path)) from error
    try:
        if len(data) > MAX_PUBLIC_BYTES:
            raise ValueError(f"larger than {MAX_PUBLIC_BYTES} bytes")
        said = msgspec.json.decode(data, type=PublicFile)
        key = Key.from_dict(said.keyid, dict(said.key))
        if not isinstance(key, SSlibKey) or _keyid(key) != said.keyid:
            raise ValueError("the key and its id do not belong together")
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError(f"not a public key file: {error}", kind="bad-key", where=str(path)) from error
    private = path.with_name(path.name.removesuffix(PUBLIC_SUFFIX) + ".pem")
    return Member(said.name, key, private, said.pkcs11)


def _keyid(key: SSlibKey) -> str:
    """What the id of such a key is; two keys under one id would be one signature counted for another."""
    public = str(key.keyval["public"])
    if key.keytype == "ed25519":
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))).keyid
    return SSlibKey.from_crypto(load_pem_public_key(public.encode()), scheme=key.scheme).keyid


def public_file(name: str, key: Key, token: Token | None = None) -> bytes:
    said = PublicFile(name=name, key=key.to_dict(), keyid=key.keyid, pkcs11=token)
    return json.dumps(msgspec.to_builtins(said), indent=1, sort_keys=True).encode() + b"\n"


def import_token(name: str, token: Token) -> bytes:
    """The public file of a key that lives in hardware. Raises MachineError when the token does not show it."""
    with _hardware(token):
        from securesystemslib.signer import HSMSigner

        _, key = HSMSigner.import_(token.keyid, token.label or None)
    return public_file(name, key, token)


def _token_signer(member: Member, token: Token, secret: Secret) -> Signer:
    with _hardware(token):
        from securesystemslib.signer import HSMSigner

        key = member.key
        assert isinstance(key, SSlibKey)
        pin = secret(f"PIN of {member.name}")
        return _TokenSigner(HSMSigner(token.keyid, key, lambda _: pin, token.label or None), token)


class _TokenSigner(Signer):
    """The library finds the maker's module through the environment, so it is set around each use."""

    def __init__(self, inner: Signer, token: Token) -> None:
        self._inner, self._token = inner, token

    @property
    def public_key(self) -> Key:
        return self._inner.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> Signer:
        raise NotImplementedError("made from a kit only")

    def sign(self, payload: bytes) -> Any:
        with _hardware(self._token):
            return self._inner.sign(payload)


class _hardware:  # noqa: N801 - a context manager that reads as a word
    """Names the token in every error, and tells a wrong PIN from a missing token."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __enter__(self) -> None:
        import os

        os.environ["PYKCS11LIB"] = self._token.module

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (TrustError, MachineError)):
            return
        if not isinstance(error, Exception):
            return
        said = f"{type(error).__name__} {error}".strip()
        where = f"token {self._token.label or self._token.module}"
        if "Pin" in type(error).__name__:
            raise TrustError(f"the PIN was refused: {said}", kind="passphrase", where=where) from error
        remedy = "is the token plugged in, its module installed, and the Python package python-pkcs11 there?"
        raise MachineError(f"the token cannot be used: {said}", where=where, remedy=remedy) from error
