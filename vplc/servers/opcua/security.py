"""Who may connect: the server's own certificate, the trusted ones of clients, and users with their roles.

The folder named in the configuration holds `own/` (key and certificate, made at the first start), `trusted/`
(certificates of client applications, or of the authorities that issue them; read at every connection, so that one is
added without a restart) and `rejected/` (the last strangers, for an engineer to move to `trusted/`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User as LibraryUser
from asyncua.crypto.permission_rules import UserRole
from asyncua.ua.status_codes import StatusCodes
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vplc.scan.errors import Problem, Refused
from vplc.servers.configuration import User

log = logging.getLogger(__name__)
_VALID = timedelta(days=10 * 365)  # nobody renews it but an engineer; a lapsed one would end the picture of the plant
_KEPT_STRANGERS = 50
_TRIES = 5  # wrong passwords of one user within _PAUSE_S, then its logins are refused unseen
_PAUSE_S = 30.0


@dataclass
class PlantUser(LibraryUser):
    """Never the library's administrator: that one may change the address space."""

    operates: bool = False


class Users:
    """What the library asks when somebody logs in."""

    def __init__(self, users: Sequence[User], anonymous: bool, clock: object = time.monotonic) -> None:
        self._users = {u.name: u for u in users}
        self._anonymous = anonymous
        self._hasher = PasswordHasher()
        self._certificates = {der(u.certificate): u for u in users if u.certificate is not None}
        self._wrong: dict[str, list[float]] = {}
        self._clock = clock if callable(clock) else time.monotonic

    def get_user(
        self,
        _server: object,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> PlantUser | None:
        """None refuses the login."""
        if username is not None:
            return self._by_password(username, password or "")
        if certificate is not None:
            found = self._certificates.get(bytes(certificate))
            return self._known(found) if found is not None else None
        return PlantUser(UserRole.User, None) if self._anonymous else None

    def _by_password(self, name: str, password: str) -> PlantUser | None:
        now = self._clock()
        user = self._users.get(name)
        if user is None or not user.password:
            log.warning("login of the unknown user %r refused", name[:80])
            return None
        wrong = [t for t in self._wrong.get(name, ()) if now - t < _PAUSE_S]
        if len(wrong) >= _TRIES:
            log.warning("login of %s refused: too many wrong passwords", name)
            return None
        try:
            self._hasher.verify(user.password, password)
        except (VerificationError, InvalidHashError):
            self._wrong[name] = [*wrong, now]
            log.warning("login of %s refused: wrong password", name)
            return None
        self._wrong.pop(name, None)
        return self._known(user)

    def _known(self, user: User) -> PlantUser:
        return PlantUser(UserRole.User, user.name, operates=user.role == "operator")


def der(path: Path) -> bytes:
    """The certificate of a file in DER. Raises Refused."""
    try:
        data = path.read_bytes()
        found = (
            x509.load_pem_x509_certificate(data) if data.startswith(b"-----") else x509.load_der_x509_certificate(data)
        )
    except (OSError, ValueError) as error:
        raise Refused([Problem(str(path), f"is no readable certificate: {error}")]) from error
    return found.public_bytes(serialization.Encoding.DER)


class Trust:
    """Which client applications may open an encrypted channel."""

    def __init__(self, folder: Path) -> None:
        self._trusted, self._rejected = folder / "trusted", folder / "rejected"
        for one in (self._trusted, self._rejected):
            one.mkdir(parents=True, exist_ok=True)

    def check(self, certificate: bytes) -> None:
        """Raises ServiceError when it is a stranger's, or its time is over."""
        try:
            found = x509.load_der_x509_certificate(certificate)
        except ValueError:
            raise ServiceError(StatusCodes.BadCertificateInvalid) from None
        now = datetime.now(UTC)
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            raise ServiceError(StatusCodes.BadCertificateTimeInvalid)
        for path in sorted(self._trusted.iterdir()):
            try:
                trusted = x509.load_der_x509_certificate(der(path))
            except Refused as error:
                log.warning("%s", error)
                continue
            if trusted == found or _issued(found, trusted):
                return
        self._keep(certificate)
        raise ServiceError(StatusCodes.BadCertificateUntrusted)

    def _keep(self, certificate: bytes) -> None:
        path = self._rejected / f"{hashlib.sha256(certificate).hexdigest()[:40]}.der"
        known = list(self._rejected.glob("*.der"))
        if path not in known and len(known) < _KEPT_STRANGERS:
            path.write_bytes(certificate)
        log.warning(
            "an application with an unknown certificate was refused; to trust it move %s to trusted/", path.name
        )


def _issued(found: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        if not by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        found.verify_directly_issued_by(by)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    now = datetime.now(UTC)
    return by.not_valid_before_utc <= now <= by.not_valid_after_utc


def own_certificate(folder: Path, uri: str, bind: str) -> tuple[Path, Path]:
    """Key and certificate of the server, made if they are not there. Raises Refused."""
    own = folder / "own"
    key_path, path = own / "key.pem", own / "certificate.der"
    try:
        own.mkdir(parents=True, exist_ok=True)
        if key_path.exists() and path.exists():
            return key_path, path
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        fd = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(pem)
        path.write_bytes(_signed(key, uri, bind).public_bytes(serialization.Encoding.DER))
    except OSError as error:
        what = f"the server's certificate cannot be kept: {error.strerror}"
        raise Refused([Problem(str(folder), what, "give another certificates folder")]) from error
    return key_path, path


def _signed(key: rsa.RSAPrivateKey, uri: str, bind: str) -> x509.Certificate:
    """Self-signed, with what OPC 10000-6, 6.2.2 asks of an application instance certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri.rpartition(":")[2][:60] or "vplc")])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())]
    address = ipaddress.ip_address(bind)
    if not address.is_unspecified:
        names.append(x509.IPAddress(address))
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
