"""Keys are split at birth, protected where asked, and never overwritten."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from manifests import catalog, ceremony, keys, pki, signing
from manifests.errors import MachineError, TrustError
from manifests.model import WorkloadClass
from manifests.policy import Approver

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "acme"
    ceremony.init_keys(folder, server_names=["sluice.acme.example", "10.0.0.1"], now=NOW, passphrase="correct horse")
    return folder


def test_the_orchestrators_folder_holds_no_release_key(made: Path) -> None:
    online = [path for path in (made / "online").rglob("*") if path.is_file()]
    offline_public = {
        keys.load_key_file(path, "correct horse").public_key().public_bytes_raw()  # type: ignore[union-attr]
        for path in (made / "offline").glob("*.pem")
        if path.name.startswith(("catalog", "director"))
    }
    for path in online:
        if b"PRIVATE KEY" not in path.read_bytes():
            continue
        key = keys.load_key_file(path)
        if hasattr(key.public_key(), "public_bytes_raw"):
            assert key.public_key().public_bytes_raw() not in offline_public
    assert {path.name for path in (made / "offline").glob("*.pem")} >= {
        "catalog-root.pem", "catalog-targets.pem", "publisher.pem", "approve-ot.pem", "approve-it.pem",
        "director-root.pem", "ca-root.pem",
    }  # fmt: skip


def test_every_private_key_is_readable_by_its_owner_only(made: Path) -> None:
    for path in made.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_offline_keys_need_their_passphrase(made: Path) -> None:
    for path in (made / "offline").glob("*.pem"):
        if path.name.endswith("-cert.pem"):
            continue
        for wrong in (None, "", "wrong"):
            with pytest.raises(TrustError) as caught:
                keys.load_key_file(path, wrong)
            assert caught.value.kind == "passphrase"
        keys.load_key_file(path, "correct horse")


def test_existing_keys_are_never_overwritten(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.raises(MachineError, match="never overwritten"):
        ceremony.init_keys(made, server_names=["localhost"], now=NOW)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["", "a b", "*.example.com", "-x", "x\n", "a" * 64 + ".example", "http://x"])
def test_a_name_no_certificate_can_carry_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrustError) as caught:
        ceremony.init_keys(tmp_path / "keys", server_names=[name], now=NOW)
    assert caught.value.kind == "bad-name"
    assert list(tmp_path.iterdir()) == []


def test_the_initial_catalog_is_whole_and_signed(made: Path) -> None:
    files = {path.name: path.read_bytes() for path in (made / "online" / "catalog").iterdir()}
    root = (made / "online" / "roots" / "catalog.root.json").read_bytes()
    verified = signing.verify_repository(root, files, now=NOW)
    assert set(verified.targets.targets) == {"policy.json"}
    assert set(verified.delegated) == set(catalog.DELEGATED_ROLES)
    assert signing.catalog_policy(verified).needed(WorkloadClass.CONTROL) == (Approver.OT, Approver.IT)
    assert verified.timestamp is not None
    assert verified.timestamp.expires - NOW <= timedelta(days=30)


def test_the_server_certificate_serves_its_names_and_chains_to_its_own_authority(made: Path) -> None:
    chain = (made / "online" / "server-chain.pem").read_bytes()
    leaf = x509.load_pem_x509_certificates(chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sluice.acme.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "online" / "server-chain.pem", made / "online" / "server.pem")
    site_authority = pki.certificate_digest((made / "online" / "site-ca-chain.pem").read_bytes())
    assert site_authority != pki.certificate_digest((made / "online" / "server-ca.pem").read_bytes())


def test_a_renewed_server_certificate_needs_no_new_pin(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    ceremony.init_keys(folder, server_names=["localhost"], now=NOW)
    before = {n: (folder / "online" / n).read_bytes() for n in ("server-ca.pem", "server-chain.pem", "server.pem")}
    ceremony.renew_server(folder, server_names=["localhost", "new.example"], now=NOW + timedelta(days=700))
    assert (folder / "online" / "server-ca.pem").read_bytes() == before["server-ca.pem"]
    assert (folder / "online" / "server-chain.pem").read_bytes() != before["server-chain.pem"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "online" / "server-chain.pem", folder / "online" / "server.pem")


@pytest.mark.parametrize("data", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_junk_is_no_key(data: bytes) -> None:
    with pytest.raises(TrustError) as caught:
        keys.load_key(data)
    assert caught.value.kind == "bad-key"
