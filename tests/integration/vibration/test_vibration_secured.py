"""Records over lines that ask who we are: an encrypted OPC UA server with a user, a broker with a password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.vibration_rig import BESIDE, OPCUA, Rig
from tests.support.workload_process import wait_for_port

PASSWORD = "a long pass phrase"  # of this test


async def certificates(rig: Rig) -> dict[str, Any]:
    """This client's certificate in the configuration, its key as a secret, the server's certificate as a file."""
    key, certificate = rig.folder / "client.pem", rig.folder / "client.der"
    uri = "urn:sluice:workload:vibration"
    await setup_self_signed_certificate(
        key, certificate, uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH], {"commonName": "vibration"}
    )
    rig.secret("opcua-key", key.read_text())
    pem = load_der_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.PEM).decode()
    return {
        "certificatePem": pem,
        "privateKeySecret": "opcua-key",
        "serverCertificateFile": str(rig.folder / "server" / "motor.cert.der"),
    }


async def test_an_encrypted_server_gives_records_to_the_user_whose_password_is_a_secret(rig: Rig) -> None:
    security = await certificates(rig)
    await rig.simulate("opcua", "--cert-dir", str(rig.folder / "server"), "--user", "vibration", "--password", PASSWORD)
    url = f"opc.tcp://127.0.0.1:{rig.port}"
    opcua = {"url": url, **OPCUA, **BESIDE, "security": security, "username": "vibration", "passwordSecret": "motor"}
    await rig.watch(opcua=opcua, secrets={"motor": "not this one"})
    await rig.unreachable("AccessDenied")
    rig.secret("motor", PASSWORD)  # put right without a restart
    await rig.told("fault", "OR")


@pytest.mark.parametrize("missing", ["security", "key"])
async def test_a_server_that_only_talks_encrypted_says_what_is_missing(rig: Rig, missing: str) -> None:
    security = await certificates(rig)
    await rig.simulate("opcua", "--cert-dir", str(rig.folder / "server"))
    opcua: dict[str, Any] = {"url": f"opc.tcp://127.0.0.1:{rig.port}", **OPCUA, **BESIDE}
    if missing == "key":
        opcua["security"] = {**security, "privateKeySecret": "other-key"}
    await rig.watch(opcua=opcua, secrets={"unused": "x"})
    await rig.unreachable("other-key" if missing == "key" else "olic")  # BadSecurityPolicyRejected, or no such policy


@asynccontextmanager
async def mosquitto(settings: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec("mosquitto", "-c", str(settings))
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def guarded(rig: Rig) -> Rig:
    """A mosquitto that lets in one user by password."""
    passwords, settings = rig.folder / "passwords", rig.folder / "mosquitto.conf"
    made = await asyncio.create_subprocess_exec("mosquitto_passwd", "-b", "-c", passwords, "vibration", PASSWORD)
    assert await made.wait() == 0
    passwords.chmod(0o600)
    settings.write_text(f"listener {rig.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n")
    await rig.stack.enter_async_context(mosquitto(settings))
    await wait_for_port(rig.port)
    return rig


async def test_a_broker_lets_in_whoever_has_the_password_from_the_secret(guarded: Rig) -> None:
    rig = guarded
    mqtt = {"host": "127.0.0.1", "port": rig.port, "topic": "records/motor", "username": "vibration",
            "passwordSecret": "broker"}  # fmt: skip
    await rig.watch(mqtt=mqtt, secrets={"broker": "not this one"})
    await rig.unreachable("refuse")
    rig.secret("broker", PASSWORD)
    await rig.simulate("mqtt", "--user", "vibration", "--password", PASSWORD)
    await rig.told("fault", "OR")
    assert PASSWORD not in (rig.folder / "context.json").read_text()
