"""A key and a self-signed certificate for a simulated OPC UA server, made where there is none yet.

Called by ``press`` and ``bearing_source`` when they are given ``--cert-dir``.
"""

from __future__ import annotations

import socket
from pathlib import Path

from asyncua import Server


async def offer_security(server: Server, directory: Path, name: str, application_uri: str) -> None:
    """``<name>.key.pem`` and ``<name>.cert.der`` in ``directory``, and the server using them."""
    # Imported here: the cryptography library costs start-up time and memory nobody without --cert-dir needs.
    from asyncua.crypto.cert_gen import setup_self_signed_certificate
    from cryptography.x509.oid import ExtendedKeyUsageOID

    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # before anybody is served
    key, certificate = directory / f"{name}.key.pem", directory / f"{name}.cert.der"
    await setup_self_signed_certificate(
        key, certificate, application_uri, socket.gethostname(),
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        {"organizationName": "Sluice simulators"},
    )  # fmt: skip
    key.chmod(0o600)
    await server.load_certificate(certificate)
    await server.load_private_key(key)
