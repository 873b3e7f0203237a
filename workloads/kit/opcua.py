"""How a workload meets an OPC UA server: where it is reached, how the channel is secured, who logs in.

Called by every workload that is an OPC UA client, and by its configuration: the library, which costs memory, is
imported only where a channel is made. The server's certificate is named, not trusted on first sight, and no password
travels over a channel without security.

Source: OPC UA Part 2, 4.5 (channel and session security); Part 7, Basic256Sha256.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from manifests.errors import MachineError
from manifests.model import RunContext
from workloads.kit import context as contexts
from workloads.kit import login as logins
from workloads.kit.context import SecretName
from workloads.kit.login import Login, Secret

if TYPE_CHECKING:
    from asyncua.client.client import Client
    from asyncua.crypto.uacrypto import CertProperties

DEFAULT_PORT = 4840
ServerUrl = Annotated[str, Meta(pattern=r"^opc\.tcp://[^/@\s]+(/\S*)?$", max_length=1024)]
File = Annotated[str, Meta(max_length=1024)]
Pem = Annotated[str, Meta(max_length=20_000)]


class Security(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Basic256Sha256. Certificates are files on the node or their text (PEM) right here; the private key is a file or a
    secret of this instance (PEM). The server's certificate is named, not trusted on first sight."""

    certificate_file: File = ""
    certificate_pem: Pem = ""
    private_key_file: File = ""
    private_key_secret: SecretName = ""
    server_certificate_file: File = ""
    server_certificate_pem: Pem = ""
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"


def mistakes(security: Security | None, login: Login) -> Iterator[tuple[str, str, str]]:
    """Contradictions between the fields: key (from the server's configuration on), what, hint."""
    yield from logins.mistakes(login)
    if login.username and security is None:
        yield "username", "a password would travel unencrypted", "give security"
    if security is None:
        return
    for one, first, other, second, what in (
        ("certificateFile", security.certificate_file, "certificatePem", security.certificate_pem, "certificate"),
        ("privateKeyFile", security.private_key_file, "privateKeySecret", security.private_key_secret, "private key"),
        (
            "serverCertificateFile",
            security.server_certificate_file,
            "serverCertificatePem",
            security.server_certificate_pem,
            "server's certificate",
        ),
    ):
        if bool(first) == bool(second):
            how = "given twice" if first else "missing"
            yield f"security.{one}", f"the {what} is {how}", f"give either {one} or {other}"


async def secure(client: Client, security: Security | None, login: Login, secret: Secret | None) -> None:
    """Before ``connect``. Raises MachineError for what is missing on this node, ValueError for what is no key."""
    from asyncua import ua
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
    from asyncua.crypto.uacrypto import CertProperties

    if login.username:
        client.set_user(login.username)
        client.set_password(logins.password(login, secret))
    if security is None:
        return
    key: str | CertProperties = security.private_key_file
    if security.private_key_secret and secret is not None:
        key = CertProperties(secret(security.private_key_secret).encode(), "pem")
    try:
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            _certificate(security.certificate_file, security.certificate_pem),
            key,
            server_certificate=_certificate(security.server_certificate_file, security.server_certificate_pem),
            mode=getattr(ua.MessageSecurityMode, security.mode),
        )
    except FileNotFoundError as error:
        raise MachineError(f"no certificate or key at {error.filename}", remedy="see security") from error


def _certificate(file: str, pem: str) -> str | CertProperties:
    from asyncua.crypto.uacrypto import CertProperties

    return CertProperties(pem.encode(), "pem") if pem else file


def reached(context: RunContext, url: str) -> str:
    """``url`` with the address its host has for this instance."""
    parts = urlsplit(url)
    host = contexts.address(context, parts.hostname or "")
    if ":" in host:
        host = f"[{host}]"
    return f"opc.tcp://{host}:{parts.port or DEFAULT_PORT}{parts.path}"
