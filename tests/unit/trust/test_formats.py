"""Files of released formats load for ever. The keys that signed these samples were thrown away."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.identity import load_identity
from agent.verify import TrustStore
from manifests import signing
from manifests.model import WorkloadClass
from manifests.pki import EnrolmentToken

SAMPLES = Path(__file__).parents[2] / "formats" / "trust"
SIGNED = datetime(2026, 6, 1, tzinfo=UTC)


def folder(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (SAMPLES / name).iterdir()}


def test_a_token_of_the_first_format_loads() -> None:
    token = EnrolmentToken.decode((SAMPLES / "token.txt").read_text())
    assert (token.url, token.site, token.node) == ("https://sluice.example:8443", "hamburg", "edge-1")
    assert token.server_ca_pem.startswith("-----BEGIN CERTIFICATE-----")
    assert token.catalog_root_sha256 == hashlib.sha256(folder("catalog")["1.root.json"]).hexdigest()


def test_a_release_of_the_first_format_loads_and_keeps_its_bytes() -> None:
    data = (SAMPLES / "release.json").read_bytes()
    release = signing.parse_release(data)
    assert (release.name, release.version, release.workload_class) == ("modbus", "1.0.0", WorkloadClass.TRANSLATOR)
    assert signing.release_bytes(release) == data


@pytest.mark.parametrize("name", ["catalog", "director"])
def test_metadata_of_the_first_format_verifies(name: str) -> None:
    files = folder(name)
    verified = signing.verify_repository(files["1.root.json"], files, now=SIGNED)
    assert list(verified.targets.targets) == ["translator/modbus/1.0.0/release.json"]
    assert verified.timestamp is not None
    assert signing.signed_at(verified.timestamp) == SIGNED


def test_the_state_folder_of_an_agent_of_the_first_format_boots(tmp_path: Path) -> None:
    """An agent that was updated must go on with what it ran, with the cable cut."""
    shutil.copytree(SAMPLES / "activated", tmp_path / "trust" / "activated")
    place = tmp_path / "identity"
    place.mkdir()
    shutil.copy(SAMPLES / "identity.json", place / "identity.json")
    shutil.copy(SAMPLES / "catalog" / "1.root.json", place / "catalog.root.json")
    shutil.copy(SAMPLES / "director" / "1.root.json", place / "director.root.json")
    store = TrustStore(tmp_path / "trust", load_identity(tmp_path))
    state = store.last_good(SIGNED)
    assert state is not None, store.status()
    assert state.facts.generation == 3
    assert state.instances[0].instance.config == {"period_s": 0.5, "host": "pump"}
