"""Whatever the orchestrator sends, a refusal has a name and the last good state stays."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile, Targets

from agent import consent
from agent.verify import TrustStore, read_heads
from manifests import checking, keys, signing
from manifests.audit import TreeHead
from manifests.errors import InternalError, MachineError, TrustError, UnreachableError
from manifests.messages import SyncReply
from manifests.model import DesiredState, WorkloadClass, release_path
from manifests.policy import Approver
from tests.support.releases import DirectSource, Plant, a_release


def refused(plant: Plant, *kinds: str, now: datetime | None = None) -> TrustError:
    """The refresh is refused with one of ``kinds``, the status says so, and the last good state is as it was."""
    with pytest.raises(TrustError) as caught:
        plant.store.refresh(plant.source, now or plant.now)
    assert caught.value.kind in kinds, str(caught.value)
    status = plant.store.status()
    assert status.refusal == caught.value.kind
    assert status.refusal_detail
    assert status.adopted_generation == 1
    assert plant.open().last_good(plant.now) == plant.good
    return caught.value


def recovers(plant: Plant, generation: int) -> None:
    plant.source.reply = None
    plant.assign(generation)
    state = plant.store.refresh(plant.source, plant.now)
    assert state.facts.generation == generation
    assert plant.store.status().refusal == ""


def offer(plant: Plant, **files: dict[str, bytes]) -> None:
    plant.source.reply = SyncReply(catalog=files.get("catalog", {}), director=files.get("director", {}))


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0x01
    return bytes(changed)


def test_a_new_generation_is_accepted_and_survives_a_restart(plant: Plant) -> None:
    plant.assign(2, period_s=5.0)
    state = plant.store.refresh(plant.source, plant.now)
    assert state.facts.generation == 2
    assert state.instances[0].instance.config == {"period_s": 5.0}
    assert plant.open().last_good(plant.now) == plant.good  # accepted is not activated yet
    plant.store.activate(state)
    again = plant.open()
    assert again.last_good(plant.now) == state
    assert again.status().adopted_generation == 2


def test_an_unchanged_site_is_asked_about_with_its_versions_and_nothing_is_rewritten(plant: Plant) -> None:
    before = (plant.state / "trust" / "accepted").resolve()
    assert plant.store.refresh(plant.source, plant.now) == plant.good
    assert plant.far.syncs[-1].director.timestamp == 1
    assert (plant.state / "trust" / "accepted").resolve() == before


def test_an_answer_that_repeats_what_is_held_is_no_news(plant: Plant) -> None:
    before = (plant.state / "trust" / "accepted").resolve()
    stamp = plant.far.catalog["timestamp.json"]
    offer(plant, director=dict(plant.far.directors["hamburg"]), catalog={"timestamp.json": stamp})
    assert plant.store.refresh(plant.source, plant.now) == plant.good
    assert (plant.state / "trust" / "accepted").resolve() == before  # no wear on the flash


def test_a_timestamp_signed_again_is_taken_without_a_change(plant: Plant) -> None:
    plant.assign(1)
    assert plant.store.refresh(plant.source, plant.now) == plant.good
    assert plant.store.status().director_version == 2


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.95])
def test_a_director_file_with_one_flipped_byte_is_refused(plant: Plant, name: str, share: float) -> None:
    files = plant.assign(2, period_s=2.0)
    offer(plant, director={**files, name: flipped(files[name], int(len(files[name]) * share))})
    error = refused(
        plant, "bad-signature", "bad-digest", "malformed", "bad-metadata", "wrong-site", "rollback", "incomplete",
        "mix-and-match",
    )  # fmt: skip
    assert "director" in error.where
    recovers(plant, 3)


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json", "3.translator.json"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_catalog_file_with_one_flipped_byte_is_refused(plant: Plant, name: str, share: float) -> None:
    plant.far.publish(a_release(version="1.1.0"))
    files = {n: plant.far.catalog[n] for n in ("timestamp.json", "3.snapshot.json", "3.translator.json")}
    offer(plant, catalog={**files, name: flipped(files[name], int(len(files[name]) * share))})
    error = refused(
        plant, "bad-signature", "bad-digest", "malformed", "bad-metadata", "rollback", "incomplete", "mix-and-match"
    )
    assert "catalog" in error.where


def test_a_release_with_one_flipped_byte_is_refused(plant: Plant) -> None:
    plant.release = plant.far.publish(a_release(version="2.0.0"))
    plant.assign(2)
    digest = signing.release_digest(signing.release_bytes(plant.release))
    good = plant.far.blobs[digest]
    plant.far.blobs[digest] = flipped(good, 40)
    assert "release.json" in refused(plant, "bad-digest").where
    plant.far.blobs[digest] = good + b" "
    refused(plant, "bad-digest")
    plant.far.blobs[digest] = good
    recovers(plant, 3)


def test_a_release_that_is_not_there_yet_is_waited_for(plant: Plant) -> None:
    plant.release = plant.far.publish(a_release(version="2.0.0"))
    plant.assign(2)
    plant.far.blobs.clear()
    with pytest.raises(UnreachableError):
        plant.store.refresh(plant.source, plant.now)
    assert plant.open().last_good(plant.now) == plant.good


def test_an_older_generation_is_refused_even_when_freshly_signed(plant: Plant) -> None:
    plant.assign(0)
    assert "generation 0 is older" in str(refused(plant, "rollback"))


def test_the_same_generation_with_other_content_is_refused(plant: Plant) -> None:
    plant.assign(1, period_s=9.0)
    assert "other content" in str(refused(plant, "rollback"))


def test_a_generation_accepted_but_not_activated_yet_is_a_floor_too(plant: Plant) -> None:
    plant.assign(5)
    plant.store.refresh(plant.source, plant.now)
    plant.assign(4)
    refused(plant, "rollback")


def test_what_was_in_force_is_a_floor_also_when_the_metadata_on_disk_is_gone(plant: Plant) -> None:
    plant.assign(3)
    adopted = plant.store.refresh(plant.source, plant.now)
    plant.store.activate(adopted)
    for left in plant.store._folder.iterdir():
        left.unlink() if left.is_symlink() or left.is_file() else shutil.rmtree(left)
    store = TrustStore(plant.store._folder, plant.store._identity)
    assert store.last_good(plant.now) is None
    store.remember(adopted)
    plant.assign(2)
    with pytest.raises(TrustError, match="generation 2 is older than 3"):
        store.refresh(plant.source, plant.now)
    plant.assign(4)
    store.activate(store.refresh(plant.source, plant.now))
    assert store.status().adopted_generation == 4


def test_an_older_timestamp_played_back_is_refused(plant: Plant) -> None:
    old = dict(plant.far.directors["hamburg"])
    plant.assign(2)
    plant.store.activate(plant.store.refresh(plant.source, plant.now))
    offer(plant, director=old)
    with pytest.raises(TrustError) as caught:
        plant.store.refresh(plant.source, plant.now)
    assert caught.value.kind == "rollback"
    assert plant.store.status().adopted_generation == 2


def test_another_sites_director_is_refused_before_anything_is_kept(plant: Plant) -> None:
    files = plant.far.assign("leipzig", [], generation=7, version=90)
    offer(plant, director=files)
    assert "'leipzig'" in str(refused(plant, "wrong-site"))
    recovers(plant, 2)  # not stuck behind version 90


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_a_single_file_of_another_site_is_refused(plant: Plant, name: str) -> None:
    own = plant.assign(2)
    other = plant.far.assign("leipzig", [], generation=2, version=2)
    offer(plant, director={**own, name: other[name]})
    refused(plant, "wrong-site", "bad-digest")


def test_facts_for_another_site_under_our_binding_are_refused(plant: Plant) -> None:
    """``x-site`` is right and ``x-sluice`` is not: a signer with a bug, or a thief of its key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

    files = plant.assign(2)
    key = keys.load_signing_key(plant.far.online / "director.pem")
    assert isinstance(key, Ed25519PrivateKey)
    targets = Metadata[Targets].from_bytes(files["2.targets.json"])
    snapshot = Metadata[Snapshot].from_bytes(files["2.snapshot.json"])
    timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"])
    targets.signed.unrecognized_fields["x-sluice"]["site"] = "leipzig"
    targets.sign(CryptoSigner(key))
    snapshot.signed.meta["targets.json"] = MetaFile(version=2)
    snapshot.sign(CryptoSigner(key))
    timestamp.signed.snapshot_meta = MetaFile(version=2)
    timestamp.sign(CryptoSigner(key))
    offer(
        plant,
        director={
            "timestamp.json": timestamp.to_bytes(),
            "2.snapshot.json": snapshot.to_bytes(),
            "2.targets.json": targets.to_bytes(),
        },
    )
    assert "x-sluice" in refused(plant, "wrong-site").where


def test_expired_instructions_are_refused_and_the_last_good_keeps_running(plant: Plant) -> None:
    plant.assign(2, now=plant.now - timedelta(days=40))
    refused(plant, "expired")
    recovers(plant, 3)


def test_a_frozen_orchestrator_is_noticed_when_its_last_word_expires(plant: Plant) -> None:
    later = plant.now + timedelta(days=31)
    refused(plant, "expired", now=later)
    assert plant.open().last_good(later) == plant.good


def test_an_expired_catalog_timestamp_is_refused(plant: Plant) -> None:
    plant.far.stamp_catalog(now=plant.now - timedelta(days=31))
    plant.assign(2)
    assert "catalog" in refused(plant, "expired").where


def test_a_new_timestamp_over_an_old_snapshot_is_refused(plant: Plant) -> None:
    old = dict(plant.far.directors["hamburg"])
    new = plant.assign(2, period_s=2.0)
    offer(plant, director={"timestamp.json": new["timestamp.json"], "2.snapshot.json": old["1.snapshot.json"]})
    refused(plant, "bad-digest", "mix-and-match")


def test_a_new_snapshot_over_old_targets_is_refused(plant: Plant) -> None:
    old = dict(plant.far.directors["hamburg"])
    new = plant.assign(2, period_s=2.0)
    offer(plant, director={**new, "2.targets.json": old["1.targets.json"]})
    refused(plant, "bad-digest", "mix-and-match")


@pytest.mark.parametrize("missing", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_an_incomplete_answer_never_becomes_a_half_state(plant: Plant, missing: str) -> None:
    files = plant.assign(2, period_s=2.0)
    plant.source.reply = SyncReply(catalog={}, director={n: d for n, d in files.items() if n != missing})
    if missing == "timestamp.json":  # no news: the old timestamp stays, and with it the old state
        assert plant.store.refresh(plant.source, plant.now) == plant.good
    else:
        refused(plant, "incomplete")


def test_a_release_the_catalog_does_not_hold_is_refused(plant: Plant) -> None:
    rogue = a_release(name="rogue")
    plant.far.add_blob(signing.release_bytes(rogue))
    plant.far.assign("hamburg", [plant.far.placed("press", rogue)], generation=2)
    assert "not in the signed catalog" in str(refused(plant, "catalog-mismatch"))


def test_a_release_with_other_content_than_the_catalogs_is_refused(plant: Plant) -> None:
    altered = a_release(description="with a back door")
    plant.far.add_blob(signing.release_bytes(altered))
    plant.far.assign("hamburg", [plant.far.placed("press", altered)], generation=2)
    refused(plant, "catalog-mismatch")


def test_instructions_signed_by_a_strangers_keys_are_refused(plant: Plant, tmp_path: Path) -> None:
    stranger = signing.DirectorSigner(keys.key_pem(keys.generate_signing_key()))
    plant.assign(2, signer=stranger)
    refused(plant, "bad-signature")


def test_a_root_signed_by_a_stranger_is_refused(plant: Plant, tmp_path: Path) -> None:
    mine = keys.generate_signing_key()
    roles = {key: [mine] for key in ("root", "timestamp", "snapshot", "targets")}
    first = signing.new_root(roles, now=plant.now, signers=[mine])
    second = signing.next_root(first, signers=[mine], replace={}, now=plant.now)
    files = plant.assign(2, signer=signing.DirectorSigner(keys.key_pem(mine)))
    offer(plant, director={**files, "2.root.json": second})
    assert "2.root.json" in refused(plant, "bad-signature").where


def test_a_rotated_root_is_followed_and_frees_a_site_that_was_sent_far_ahead(plant: Plant) -> None:
    plant.assign(2, version=900)  # by a thief of the director key
    plant.store.activate(plant.store.refresh(plant.source, plant.now))
    offline = keys.load_signing_key(plant.far.offline / "director-root.pem")
    fresh = keys.generate_signing_key()
    replaced = {key: [fresh] for key in ("targets", "snapshot", "timestamp")}
    root = signing.next_root(plant.far.director_root, signers=[offline], replace=replaced, now=plant.now)
    plant.far.director_roots["2.root.json"] = root
    plant.far.director = signing.DirectorSigner(keys.key_pem(fresh))
    plant.assign(3, version=5)
    state = plant.store.refresh(plant.source, plant.now)
    assert state.facts.generation == 3
    plant.store.activate(state)
    assert plant.open().last_good(plant.now) == state


def test_a_clock_in_1970_is_refused_with_its_own_word(plant: Plant) -> None:
    plant.assign(2)
    assert "clock" in str(refused(plant, "clock", now=datetime(1970, 1, 1, tzinfo=UTC)))
    recovers(plant, 3)


def test_a_clock_behind_the_latest_signature_seen_is_refused(plant: Plant) -> None:
    plant.assign(2)
    refused(plant, "clock", now=plant.now - timedelta(minutes=30))


def test_the_clock_floor_outlives_the_metadata(plant: Plant) -> None:
    for place in ("accepted", "activated"):
        (plant.state / "trust" / place).unlink()
    with pytest.raises(TrustError) as caught:
        plant.open().refresh(plant.source, plant.now - timedelta(hours=2))
    assert caught.value.kind == "clock"


def test_a_signature_from_the_future_is_refused_and_does_not_raise_the_floor(plant: Plant) -> None:
    plant.assign(2, now=plant.now + timedelta(days=3))
    refused(plant, "clock")
    recovers(plant, 3)


def test_a_configuration_outside_the_signed_limits_is_refused(plant: Plant) -> None:
    plant.assign(2, period_s=0.001)
    assert "period_s: 0.001 is less than 0.1" in str(refused(plant, "bad-config"))


def test_a_name_that_is_no_metadata_is_refused(plant: Plant) -> None:
    offer(plant, director={"../../etc/passwd": b"x"})
    refused(plant, "malformed")


def test_an_oversized_timestamp_is_refused(plant: Plant) -> None:
    files = plant.assign(2)
    offer(plant, director={**files, "timestamp.json": b" " * 20_000 + files["timestamp.json"]})
    refused(plant, "oversized")


def test_a_key_that_comes_twice_is_refused(plant: Plant) -> None:
    files = plant.assign(2)
    twice = files["timestamp.json"].replace(b'"version":2', b'"version":2,"version":2')
    offer(plant, director={**files, "timestamp.json": twice})
    refused(plant, "malformed")


@pytest.mark.parametrize(
    "junk", [b"", b"{}", b"[]", b"null", b"[" * 16_000, b'{"signed":{"x-site":"hamburg"}}', b"\xff"]
)
def test_junk_in_place_of_metadata_is_refused(plant: Plant, junk: bytes) -> None:
    files = plant.assign(2)
    offer(plant, director={**files, "timestamp.json": junk})
    refused(plant, "malformed", "wrong-site", "bad-metadata")


def test_a_cut_line_changes_nothing_and_raises_no_alarm(plant: Plant) -> None:
    plant.source.down = True
    with pytest.raises(UnreachableError):
        plant.store.refresh(plant.source, plant.now)
    assert plant.store.status().refusal == ""
    assert plant.open().last_good(plant.now) == plant.good


def test_what_was_checked_once_is_checked_again_when_its_bytes_change(plant: Plant) -> None:
    """Also by the process that found it good, and also when the list of digests on disk was changed with it."""
    assert plant.store.last_good(plant.now) == plant.good
    for place in ("accepted", "activated"):
        folder = (plant.state / "trust" / place).resolve()
        file = next((folder / "director").glob("*.targets.json"))
        data = file.read_bytes().replace(b"1.0", b"2.0", 1)
        assert data != file.read_bytes()
        file.write_bytes(data)
        contents = json.loads((folder / "contents.json").read_text())
        contents["files"][f"director/{file.name}"] = hashlib.sha256(data).hexdigest()
        (folder / "contents.json").write_text(json.dumps(contents))
    assert plant.store.last_good(plant.now) is None
    assert plant.store.status().refusal in ("bad-digest", "bad-signature")


def test_only_what_was_accepted_last_can_be_activated(plant: Plant) -> None:
    plant.assign(2)
    plant.store.refresh(plant.source, plant.now)
    with pytest.raises(InternalError):
        plant.store.activate(plant.good)


def test_a_lower_version_is_allowed_in_a_new_generation_and_told(plant: Plant) -> None:
    newer = plant.far.publish(a_release(version="1.10.0"))
    plant.far.assign("hamburg", [plant.far.placed("press", newer)], generation=2)
    plant.store.refresh(plant.source, plant.now)
    plant.assign(3)
    plant.store.refresh(plant.source, plant.now)
    assert plant.store.notes == ("press goes from 1.10.0 down to 1.0.0",)


def test_what_ran_before_the_last_upgrade_is_as_far_back_as_it_goes_also_after_a_restart(plant: Plant) -> None:
    releases = [plant.release, *(plant.far.publish(a_release(version=version)) for version in ("1.1.0", "1.2.0"))]

    def told(generation: int, number: int) -> DesiredState:
        plant.far.assign("hamburg", [plant.far.placed("press", releases[number])], generation=generation)
        return plant.store.refresh(plant.source, plant.now)

    plant.store.activate(told(2, 1))
    plant.store.activate(told(3, 2))
    plant.store = plant.open()
    plant.store.last_good(plant.now)
    with pytest.raises(TrustError) as caught:
        told(4, 0)
    assert caught.value.kind == plant.store.status().refusal == "downgrade"
    assert "below 1.1.0" in str(caught.value)
    plant.store.activate(told(5, 1))
    with pytest.raises(TrustError):
        told(6, 0)


def test_a_node_without_instructions_yet_has_nothing_to_run(plant: Plant, tmp_path: Path) -> None:
    identity = plant.far.identity(tmp_path / "fresh", "leipzig")
    store = TrustStore(tmp_path / "fresh" / "trust", identity)
    assert store.last_good(plant.now) is None
    with pytest.raises(TrustError) as caught:
        store.refresh(DirectSource(plant.far, "leipzig"), plant.now)
    assert caught.value.kind == "incomplete"


# ---------------------------------------------------------------- boot


def files_of(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_at_boot_every_changed_byte_of_activated_is_named_and_the_accepted_copy_runs(plant: Plant) -> None:
    place = (plant.state / "trust" / "activated").resolve()
    names = files_of(place)
    assert len(names) == 16
    for name in names:
        good = (place / name).read_bytes()
        for share in (0.1, 0.5, 0.9):
            (place / name).write_bytes(flipped(good, int(len(good) * share)))
            store = plant.open()
            assert store.last_good(plant.now) == plant.good, name
            assert store.status().refusal in ("damaged", "bad-signature"), name
            assert "activated/" in store.status().refusal_detail
        (place / name).write_bytes(good)


def test_at_boot_consistent_forgery_is_refused_by_signature(plant: Plant) -> None:
    """Someone with root on the node repairs the checksums too, in both copies."""
    for place in ("activated", "accepted"):
        folder = (plant.state / "trust" / place).resolve()
        path = folder / "director" / "1.targets.json"
        forged = path.read_bytes().replace(b"period_s", b"period_x")
        _forge(folder, "director/1.targets.json", forged)
    store = plant.open()
    assert store.last_good(plant.now) is None
    assert store.status().refusal == "bad-digest"


def test_at_boot_files_that_do_not_belong_together_are_refused(plant: Plant) -> None:
    """Each signed by the right key, but from two different moments."""
    files = plant.assign(1, version=1, now=plant.now - timedelta(days=1))
    for place in ("activated", "accepted"):
        folder = (plant.state / "trust" / place).resolve()
        _forge(folder, "director/1.snapshot.json", files["1.snapshot.json"])
    store = plant.open()
    assert store.last_good(plant.now) is None
    assert store.status().refusal == "bad-digest"


def test_at_boot_a_root_that_does_not_descend_from_the_pinned_one_is_refused(plant: Plant) -> None:
    mine = keys.generate_signing_key()
    roles = {key: [mine] for key in ("root", "timestamp", "snapshot", "targets")}
    signer = signing.DirectorSigner(keys.key_pem(mine))
    first = signing.new_root(roles, now=plant.now, signers=[mine])
    files = {
        "2.root.json": signing.next_root(first, signers=[mine], replace={}, now=plant.now),
        **signer.sign(plant.good.facts, plant.good.instances, version=1, now=plant.now),
    }
    for place in ("activated", "accepted"):
        folder = (plant.state / "trust" / place).resolve()
        for name, data in files.items():
            _forge(folder, f"director/{name}", data)
    store = plant.open()
    assert store.last_good(plant.now) is None
    assert store.status().refusal == "bad-signature"


def test_a_damaged_cache_is_fetched_again(plant: Plant) -> None:
    for place in ("activated", "accepted"):
        folder = (plant.state / "trust" / place).resolve()
        (folder / "director" / "1.targets.json").write_bytes(b"{}")
    store = plant.open()
    assert store.last_good(plant.now) is None
    assert store.refresh(plant.source, plant.now) == plant.good
    store.activate(plant.good)
    assert plant.open().last_good(plant.now) == plant.good


def test_what_a_crash_left_behind_is_cleared_at_boot(plant: Plant) -> None:
    trust = plant.state / "trust"
    (trust / ".accepted.0123456789ab" / "catalog").mkdir(parents=True)
    (trust / ".activated.link.01234567").symlink_to("nowhere")
    plant.open().last_good(plant.now)
    left = {path.name for path in trust.iterdir()}
    assert ".accepted.0123456789ab" not in left
    assert ".activated.link.01234567" not in left
    assert plant.open().last_good(plant.now) == plant.good


def test_a_second_process_on_the_same_folder_is_refused(plant: Plant) -> None:
    import fcntl

    with (plant.state / "trust" / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MachineError, match="another process"):
            plant.store.refresh(plant.source, plant.now)


def test_a_disk_that_refuses_leaves_the_last_good(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent import verify

    plant.assign(2)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verify, "swap_folder", full)
    with pytest.raises(MachineError, match="No space"):
        plant.store.refresh(plant.source, plant.now)
    monkeypatch.undo()
    assert plant.open().last_good(plant.now) == plant.good
    assert len(list((plant.state / "trust").glob(".accepted.*"))) == 1


def _forge(folder: Path, name: str, data: bytes) -> None:
    import hashlib

    (folder / name).write_bytes(data)
    contents = json.loads((folder / "contents.json").read_text())
    contents["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "contents.json").write_text(json.dumps(contents))


def test_a_workload_class_is_part_of_what_is_signed(plant: Plant) -> None:
    control = plant.far.publish(a_release(name="loop", workload_class=WorkloadClass.CONTROL))
    plant.far.assign("hamburg", [plant.far.placed("loop", control)], generation=2)
    state = plant.store.refresh(plant.source, plant.now)
    assert state.instances[0].release.workload_class is WorkloadClass.CONTROL


@pytest.mark.parametrize("approved", [(), (Approver.OT,), (Approver.IT,)])
def test_class_control_signed_by_its_publisher_and_one_side_only_is_refused(
    plant: Plant, approved: tuple[Approver, ...]
) -> None:
    loop = plant.far.publish(a_release(name="loop", workload_class=WorkloadClass.CONTROL), approved=approved)
    plant.release = loop
    plant.assign(2)
    assert "approval" in refused(plant, "unapproved").what
    assert plant.store.status().refusal == "unapproved"


def test_approved_class_control_is_still_approved_at_boot_and_cannot_be_taken_away(plant: Plant) -> None:
    plant.release = plant.far.publish(a_release(name="loop", workload_class=WorkloadClass.CONTROL))
    plant.assign(2)
    state = plant.store.refresh(plant.source, plant.now)
    plant.store.activate(state)
    assert plant.open().last_good(plant.now) == state
    plant.release = plant.far.publish(a_release(version="9.0.0"))
    plant.assign(3)
    with pytest.raises(TrustError) as caught:
        plant.store.refresh(plant.source, plant.now)
    assert caught.value.kind == plant.store.status().refusal == "control-stop"
    assert plant.store.status().adopted_generation == 2
    consent.give(plant.state, "press", who="anna", why="scrapped", now=plant.now, lasts=timedelta(hours=1))
    store = TrustStore(plant.state / "trust", plant.identity, partial(consent.consented, plant.state))
    assert store.refresh(plant.source, plant.now).facts.generation == 3


def test_a_translators_key_cannot_list_class_control(plant: Plant) -> None:
    """The delegation's paths count, not only its keys."""
    release = a_release(name="loop", workload_class=WorkloadClass.CONTROL)
    plant.far.publish(a_release(version="3.0.0"))
    name = max((n for n in plant.far.catalog if n.endswith(".translator.json")), key=lambda n: int(n.split(".")[0]))
    role = checking.parse(plant.far.catalog[name], Targets, name).signed
    data = signing.release_bytes(release)
    path = release_path(release.workload_class, release.name, release.version)
    digest = signing.release_digest(data).removeprefix("sha256:")
    role.targets[path] = TargetFile(length=len(data), hashes={"sha256": digest}, path=path)
    verified = signing.verify_repository(plant.far.catalog["1.root.json"], plant.far.catalog, now=plant.now)
    forged = {**verified.delegated, "translator": role}
    assert path not in replace(verified, delegated=forged).trusted()


def test_every_set_of_instructions_makes_the_site_a_witness_of_the_audit_log(plant: Plant) -> None:
    first, second = TreeHead(size=4, root="4" * 64), TreeHead(size=9, root="9" * 64)
    for number, head in ((2, first), (3, second)):
        plant.assign(number, head=head)
        plant.store.refresh(plant.source, plant.now)
    assert read_heads(plant.state / "trust") == (first, second)
    assert plant.store.notes == ()
    plant.assign(4, head=TreeHead(size=9, root="8" * 64))
    assert plant.store.refresh(plant.source, plant.now).facts.generation == 4  # the plant goes on
    assert "another head" in plant.store.notes[0]
    plant.assign(5, head=TreeHead(size=1, root="1" * 64))
    plant.store.refresh(plant.source, plant.now)
    assert "held 9 entries before and 1 now" in plant.store.notes[0]
