"""The catalog is edited offline, checked online, and a signed release never changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from manifests import catalog, ceremony, keys, signing
from manifests.errors import InternalError, TrustError
from manifests.messages import RepositoryVersions
from manifests.model import DesiredInstance, PlacedInstance, Resources, SiteFacts, WorkloadRelease
from tests.support.releases import a_release

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PATH = "translator/modbus/1.0.0/release.json"


class World:
    def __init__(self, folder: Path) -> None:
        ceremony.init_keys(folder, server_names=["localhost"], now=NOW)
        self.offline, self.catalog = folder / "offline", folder / "online" / "catalog"
        self.root = (folder / "online" / "roots" / "catalog.root.json").read_bytes()
        self.director = (folder / "online" / "director.pem").read_bytes()
        self.timestamper = signing.CatalogTimestamper((folder / "online" / "catalog-timestamp.pem").read_bytes())

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.catalog.iterdir()}

    def editor(self) -> catalog.CatalogEditor:
        return catalog.CatalogEditor.open(self.catalog, self.offline)

    def save(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.catalog / name).write_bytes(data)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "keys")


def test_an_added_release_is_seen_by_the_orchestrator_with_its_digest_and_length(world: World) -> None:
    editor = world.editor()
    data = signing.release_bytes(a_release())
    assert editor.add(a_release()) == PATH
    view = signing.verify_catalog_update(world.root, world.files(), editor.sign(NOW), NOW)
    digest, length = view.releases[PATH]
    assert (digest, length) == (signing.release_digest(data), len(data))
    assert view.version == 2


def test_releases_add_up_over_sessions(world: World) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        editor = world.editor()
        editor.add(a_release(version=version))
        world.save(editor.sign(NOW))
    assert len(world.editor().releases) == 3


def test_a_signed_release_never_changes(world: World) -> None:
    editor = world.editor()
    editor.add(a_release())
    editor.add(a_release())  # the same again is no change
    with pytest.raises(TrustError) as caught:
        editor.add(a_release(description="other"))
    assert caught.value.kind == "release-changed"


def test_an_uploaded_catalog_that_changes_a_signed_release_is_refused(world: World) -> None:
    editor = world.editor()
    editor.add(a_release())
    world.save(editor.sign(NOW))
    editor.remove(PATH)
    editor.add(a_release(description="other"))
    with pytest.raises(TrustError) as caught:
        signing.verify_catalog_update(world.root, world.files(), editor.sign(NOW), NOW)
    assert caught.value.kind == "release-changed"


def test_an_older_catalog_is_refused_at_upload(world: World) -> None:
    first = world.editor()
    first.add(a_release())
    old = first.sign(NOW)
    world.save(old)
    second = world.editor()
    second.add(a_release(version="2.0.0"))
    world.save(second.sign(NOW))
    with pytest.raises(TrustError) as caught:
        signing.verify_catalog_update(world.root, world.files(), old, NOW)
    assert caught.value.kind == "rollback"


def test_a_catalog_of_the_same_version_with_other_content_is_refused_at_upload(world: World) -> None:
    a, b = world.editor(), world.editor()
    a.add(a_release())
    world.save(a.sign(NOW))
    b.add(a_release(name="other"))
    with pytest.raises(TrustError) as caught:
        signing.verify_catalog_update(world.root, world.files(), b.sign(NOW), NOW)
    assert caught.value.kind == "rollback"


def test_a_catalog_signed_with_the_online_keys_only_is_refused_at_upload(world: World) -> None:
    thief = signing.signing_key(world.director)
    mine = {role: [CryptoSigner(thief)] for role in ("targets", "snapshot", "translator")}
    editor = catalog.CatalogEditor.new(world.root, signers=mine, delegations={"translator": [thief]})
    editor.add(a_release(name="rogue"))
    editor.sign(NOW)
    with pytest.raises(TrustError) as caught:
        signing.verify_catalog_update(world.root, world.files(), editor.sign(NOW), NOW)
    assert caught.value.kind == "bad-signature"


def test_an_expired_catalog_is_refused_at_upload(world: World) -> None:
    editor = world.editor()
    editor.add(a_release())
    files = editor.sign(NOW)
    with pytest.raises(TrustError) as caught:
        signing.verify_catalog_update(world.root, world.files(), files, NOW + timedelta(days=366))
    assert caught.value.kind == "expired"


def test_a_catalog_the_orchestrator_forged_is_not_signed_on(world: World) -> None:
    forged = json.loads((world.catalog / "1.targets.json").read_bytes())
    forged["signed"]["targets"]["translator/rogue/1.0.0/release.json"] = {"length": 1, "hashes": {"sha256": "0" * 64}}
    (world.catalog / "1.targets.json").write_text(json.dumps(forged))
    with pytest.raises(TrustError):
        world.editor()


def test_an_old_catalog_handed_back_is_not_signed_on(world: World) -> None:
    """The orchestrator hands back what was before a release was withdrawn, or the upload was lost."""
    editor = world.editor()
    editor.add(a_release())
    editor.add(a_release(version="2.0.0"))
    world.save(editor.sign(NOW))
    old = world.files()
    again = world.editor()
    again.remove(PATH)
    again.sign(NOW)
    assert world.files() == old
    third = world.editor()
    assert third.version == 3
    assert PATH not in third.releases
    assert sorted(path.name for path in (world.offline / "catalog").iterdir()) == [
        "3.snapshot.json",
        "3.translator.json",
    ]


def test_a_catalog_signed_on_another_machine_is_taken_up(world: World, tmp_path: Path) -> None:
    import shutil

    first = world.editor()
    first.add(a_release())
    world.save(first.sign(NOW))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(world.offline, elsewhere)
    other = catalog.CatalogEditor.open(world.catalog, elsewhere)
    other.add(a_release(version="2.0.0"))
    world.save(other.sign(NOW))
    assert len(world.editor().releases) == 2


@pytest.mark.parametrize("name", ["1.snapshot.json", "1.targets.json", "1.control.json", "timestamp.json"])
def test_every_changed_byte_of_the_signed_part_is_refused(world: World, name: str) -> None:
    files = world.files()
    data = files[name]
    begin = data.index(b'"signed"')
    for at in range(begin, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(TrustError):
            signing.verify_repository(world.root, {**files, name: bytes(changed)}, now=NOW)


def test_configurations_with_fractions_can_be_signed(world: World) -> None:
    release = a_release(resources=Resources(cpus=0.25))
    digest = signing.release_digest(signing.release_bytes(release))
    config = {"period_s": 0.5, "text": 'quote " backslash \\ umlaut ü', "none": None, "list": [1, 1.5, True]}
    instance = DesiredInstance(name="press", node="edge-1", config=config)
    placed = PlacedInstance(instance=instance, release=release, release_digest=digest)
    facts = SiteFacts(site="hamburg", enterprise='ACME "ü"', generation=3, time_zone="Europe/Berlin")
    files = signing.DirectorSigner(world.director).sign(facts, [placed], version=7, now=NOW)
    assert sorted(files) == ["7.snapshot.json", "7.targets.json", "timestamp.json"]
    signed = json.loads(files["7.targets.json"])["signed"]
    assert json.loads(signed["targets"][PATH]["custom"]["instances"])[0]["config"] == config
    assert signed["x-sluice"]["enterprise"] == 'ACME "ü"'
    assert {json.loads(data)["signed"]["x-site"] for data in files.values()} == {"hamburg"}


def test_several_instances_of_one_release_share_its_target(world: World) -> None:
    release = a_release()
    digest = signing.release_digest(signing.release_bytes(release))
    placed = [
        PlacedInstance(instance=DesiredInstance(name=n, node="edge-1"), release=release, release_digest=digest)
        for n in ("b", "a")
    ]
    facts = SiteFacts(site="hamburg", enterprise="acme", generation=1)
    signer = signing.DirectorSigner(world.director)
    first = signer.sign(facts, placed, version=1, now=NOW)
    assert first == signer.sign(facts, placed[::-1], version=1, now=NOW)


def test_a_placed_release_must_have_the_digest_it_claims(world: World) -> None:
    placed = PlacedInstance(
        instance=DesiredInstance(name="a", node="n"), release=a_release(), release_digest="sha256:" + "0" * 64
    )
    with pytest.raises(InternalError):
        signing.DirectorSigner(world.director).sign(
            SiteFacts(site="hamburg", enterprise="acme", generation=1), [placed], version=1, now=NOW
        )


def test_a_client_is_sent_what_it_lacks_and_no_more(world: World) -> None:
    files = world.files()
    assert set(signing.missing_files(files, RepositoryVersions())) == set(files)
    first = RepositoryVersions(
        root=1, timestamp=1, snapshot=1, targets=1, roles=dict.fromkeys(catalog.DELEGATED_ROLES, 1)
    )
    assert signing.missing_files(files, first) == {}
    editor = world.editor()
    editor.add(a_release())
    files |= editor.sign(NOW)
    files["timestamp.json"] = world.timestamper.sign(files["2.snapshot.json"], version=2, now=NOW)
    lacking = signing.missing_files(files, first)
    assert set(lacking) == {"timestamp.json", "2.snapshot.json", "2.translator.json"}


def test_the_next_root_must_be_signed_by_the_last(world: World) -> None:
    stranger = keys.generate_signing_key()
    alone = signing.next_root(world.root, signers=[stranger], replace={"root": [stranger]}, now=NOW)
    with pytest.raises(TrustError):
        signing.complete_root(world.root, alone)
    old = keys.load_signing_key(world.offline / "catalog-root.pem")
    rotated = signing.complete_root(world.root, signing.countersign(alone, [old]))
    assert signing.verify_root(rotated) == 2
    files = {**world.files(), "2.root.json": rotated}
    assert signing.verify_repository(world.root, files, now=NOW).root.version == 2


@settings(max_examples=100)
@given(st.floats(0.01, 64, allow_nan=False), st.text(max_size=50), st.integers(8, 65536))
def test_a_release_keeps_its_digest_through_reading_and_writing(cpus: float, text: str, memory: int) -> None:
    release = a_release(description=text, resources=Resources(cpus=cpus, memory_mb=memory))
    data = signing.release_bytes(release)
    assert signing.parse_release(data) == release
    assert signing.release_bytes(signing.parse_release(data)) == data


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_trust_errors_as_a_release(data: bytes) -> None:
    with pytest.raises(TrustError):
        signing.parse_release(data)


def test_a_release_of_a_newer_minor_format_still_loads() -> None:
    data = msgspec.json.decode(signing.release_bytes(a_release()))
    data["laterField"] = {"x": 1}
    assert isinstance(signing.parse_release(msgspec.json.encode(data)), WorkloadRelease)
