"""Rows 1 to 7: an orchestrator whose disk and online keys were stolen, against a real agent process over mutual TLS.

One plant for all rows: each must leave it running exactly what it ran before.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs
from tuf.api.metadata import TargetFile

from manifests import keys, signing
from manifests.model import WorkloadClass, release_path
from manifests.policy import Approver, Consent, approval_path, consent_path, text_of
from orchestrator.store import releases, sites
from tests.security.probe import accepted_version
from tests.security.stolen import SAID, SITE, StolenCentre, a_release


def test_01_compromised_orchestrator_publishes_an_unsigned_release(stolen: StolenCentre, say: Any) -> None:
    evil = a_release("producer", stolen.artifact, version="6.6.6")

    def unlisted() -> None:
        stolen.thief.tell([stolen.placed("press", evil), stolen.placed("guard", stolen.guard)])

    def forged(role: str, workload_class: WorkloadClass) -> None:
        release = a_release("evil", stolen.artifact, workload_class, "6.6.6")
        stolen.thief.forge_release(role, release)
        stolen.thief.tell([*stolen.honest(), stolen.placed("evil", release)])

    words = [
        stolen.refuses(unlisted, "catalog-mismatch"),
        stolen.refuses(lambda: forged("translator", WorkloadClass.TRANSLATOR), "bad-signature"),
        stolen.refuses(lambda: forged("control", WorkloadClass.CONTROL), "bad-signature"),
    ]
    approved = [stolen.placed("press", stolen.press), stolen.placed("guard", stolen.unapproved)]
    words.append(stolen.refuses(lambda: stolen.thief.tell(approved), "unapproved"))
    reported = [e["text"] for e in stolen.running.operator().get("/events", params={"site": SITE}).json()]
    assert any("bad-signature" in text for text in reported)
    say(f"refused: {', '.join(words)}; the same two processes run; the event reached the centre")


def test_02_compromised_orchestrator_assigns_an_older_signed_release(stolen: StolenCentre, say: Any) -> None:
    stolen.takes(lambda: stolen.thief.tell(stolen.honest()))
    before = stolen.refuses(lambda: stolen.thief.tell(stolen.honest(), generation=1), "rollback")
    lower = [stolen.placed("press", stolen.older), stolen.placed("guard", stolen.guard)]
    word = stolen.refuses(lambda: stolen.thief.tell(lower), "downgrade")
    beside = [*stolen.honest(), stolen.placed("other", stolen.older)]
    second = stolen.refuses(lambda: stolen.thief.tell(beside), "downgrade")
    said = consent_path(SITE, "press")
    consent = Consent(site=SITE, instance="press", generation=stolen.thief.generation + 1, why="1.0.0 loses samples")
    custom = {"custom": {"consent": text_of(consent)}}
    target = TargetFile(0, {"sha256": hashlib.sha256(b"").hexdigest()}, said, unrecognized_fields=custom)

    def consented(key: Ed25519PrivateKey) -> None:
        stolen.thief.forge_targets("approve-ot", {said: target}, key)
        stolen.thief.tell(lower)

    third = stolen.refuses(lambda: consented(stolen.thief.key), "bad-signature")
    stolen.takes(lambda: consented(keys.load_signing_key(stolen.offline / "approve-ot.pem")))
    stolen.until(lambda: stolen.versions()["press"] == "0.9.0", "it was not set back")
    stolen.takes(lambda: stolen.thief.tell(stolen.honest()))
    stolen.until(lambda: stolen.versions()["press"] == "1.0.0", "it did not come forward again")
    say(
        f"older instructions: {before}; an older signed version in new ones: {word}, as another instance: {second}, "
        f"with a consent of its own: {third}; with OT's signature it is taken"
    )


def test_03_compromised_orchestrator_assigns_wrong_class_site_or_parameters(stolen: StolenCentre, say: Any) -> None:
    thief = stolen.thief
    words = [
        stolen.refuses(lambda: thief.tell(stolen.honest(), site="leipzig"), "wrong-site"),
        stolen.refuses(
            lambda: thief.tell([stolen.placed("press", stolen.press, period_s=0.0001), stolen.honest()[1]]),
            "bad-config",
        ),
        stolen.refuses(
            lambda: thief.tell([stolen.placed("press", stolen.press, command="sh"), stolen.honest()[1]]),
            "bad-config",
        ),
    ]

    def disguised() -> None:
        """A control release under a translator's path, signed by nobody who may."""
        release = a_release("guard", stolen.artifact, WorkloadClass.TRANSLATOR, "2.0.0")
        thief.forge_release("translator", release)
        thief.tell([*stolen.honest(), stolen.placed("guard2", release)])

    words.append(stolen.refuses(disguised, "bad-signature"))
    elsewhere = [stolen.placed("press", stolen.leipzigs), stolen.honest()[1]]
    words.append(stolen.refuses(lambda: thief.tell(elsewhere), "not-for-site"))
    say(f"refused: {', '.join(words)}; a parameter outside its signed range never reached the workload")


def test_04_compromised_orchestrator_removes_everything(stolen: StolenCentre, say: Any) -> None:
    word = stolen.refuses(lambda: stolen.thief.tell([]), "control-stop")
    other = stolen.refuses(lambda: stolen.thief.tell([stolen.honest()[0]]), "control-stop")
    guard = stolen.placed("guard", stolen.guard)
    nowhere = structs.replace(guard, instance=structs.replace(guard.instance, node="nowhere"))
    third = stolen.refuses(lambda: stolen.thief.tell([stolen.honest()[0], nowhere]), "control-stop")
    stolen.takes(lambda: stolen.thief.tell([stolen.honest()[1]]))  # the limit: what is not control can be stopped
    stolen.until(lambda: list(stolen.processes().values()) == ["guard"], "press was not stopped")
    stolen.takes(lambda: stolen.thief.tell(stolen.honest()))
    stolen.until(lambda: len(stolen.processes()) == 2, "press did not return")
    say(
        f"nothing at all: {word}; without the control workload: {other}; sent to a node that is not there: {third}; "
        "the translator alone can be stopped (limit)"
    )


def test_05_stolen_director_key_is_taken_back_by_the_offline_root(stolen: StolenCentre, say: Any) -> None:
    thief = stolen.thief
    before = stolen.processes()
    stolen.takes(lambda: thief.tell(stolen.honest(), version=90_000))
    offline = keys.load_signing_key(stolen.offline / "director-root.pem")
    fresh = keys.generate_signing_key()
    pinned = (thief.online / "roots" / "director.root.json").read_bytes()
    replaced = {role: [fresh] for role in ("targets", "snapshot", "timestamp")}
    root = signing.next_root(pinned, signers=[offline], replace=replaced, now=datetime.now(UTC))
    stolen.close()
    thief.store.close()
    (thief.online / "roots" / "2.director.root.json").write_bytes(root)
    (thief.online / "director.pem").write_bytes(keys.key_pem(fresh))
    old, generation = thief.director, thief.generation
    stolen.restart()
    stolen.thief.generation = generation
    stolen.takes(lambda: stolen.thief.tell(stolen.honest(), version=12))
    stolen.thief.director, new = old, stolen.thief.director
    word = stolen.refuses(lambda: stolen.thief.tell(stolen.honest(), version=90_001), "bad-signature")
    stolen.thief.director, stolen.thief.version = new, 12
    assert stolen.processes() == before
    say(f"sent ahead to version 90000; a root signed offline brought it back to 12; the old key now: {word}")


def test_06_stolen_catalog_timestamp_key_freezes_or_sends_ahead_only(stolen: StolenCentre, say: Any) -> None:
    thief = stolen.thief
    before = stolen.processes()
    now = datetime.now(UTC)

    def files() -> dict[str, bytes]:
        with thief.store.read() as conn:
            return releases.catalog_files(conn)

    def put(made: dict[str, bytes]) -> None:
        with thief.store.write() as conn:
            for name, data in made.items():
                releases.put_catalog_file(conn, name, data)

    held = files()
    snapshot = held[max((n for n in held if n.endswith(".snapshot.json")), key=lambda n: int(n.split(".")[0]))]
    ahead = signing.version_of(held["timestamp.json"]) + 1_000_000
    put({"timestamp.json": thief.timestamper.sign(snapshot, version=ahead, now=now)})

    def known() -> int:
        return accepted_version(stolen.state, "catalog", "timestamp.json")

    stolen.until(lambda: known() == ahead, "it was not taken")
    evil = a_release("evil", stolen.artifact, version="7.0.0")

    def with_timestamp_key() -> None:
        thief.forge_release("translator", evil, keys.load_signing_key(thief.online / "catalog-timestamp.pem"))
        thief.tell([*stolen.honest(), stolen.placed("evil", evil)])

    word = stolen.refuses(with_timestamp_key, "bad-signature", "rollback")
    fresh = keys.generate_signing_key()
    offline = keys.load_signing_key(stolen.offline / "catalog-root.pem")
    pinned = (thief.online / "roots" / "catalog.root.json").read_bytes()
    root = signing.next_root(pinned, signers=[offline], replace={"timestamp": [fresh]}, now=now)
    renewed = signing.CatalogTimestamper(keys.key_pem(fresh))
    put({"2.root.json": root, "timestamp.json": renewed.sign(snapshot, version=7, now=now)})
    stolen.until(lambda: known() == 7, "the rotation did not free the site")
    thief.timestamper = renewed
    assert stolen.processes() == before
    say(f"sent a million versions ahead, nothing changed; a release under that key: {word}; a rotated root freed it")


def test_07_one_stolen_ot_key_approves_nothing_alone(stolen: StolenCentre, say: Any) -> None:
    path = release_path(WorkloadClass.CONTROL, "guard", "2.0.0")
    data = signing.release_bytes(stolen.unapproved)
    said = approval_path(Approver.OT, path)
    custom = {"custom": {"approval": text_of(SAID)}}
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    target = TargetFile(len(data), hashes, said, unrecognized_fields=custom)
    key = keys.load_signing_key(stolen.offline / "approve-ot.pem")

    def ot_only() -> None:
        # An OT signer may sign the snapshot too: the strongest the key can do.
        stolen.thief.forge_targets("approve-ot", {said: target}, key)
        stolen.thief.tell([stolen.honest()[0], stolen.placed("guard", stolen.unapproved)])

    before = stolen.processes()
    word = stolen.refuses(ot_only, "unapproved")
    other = TargetFile(len(data), hashes, approval_path(Approver.IT, path), unrecognized_fields=custom)

    def for_it_too() -> None:
        stolen.thief.forge_targets("approve-ot", {said: target, other.path: other}, key)
        stolen.thief.tell([stolen.honest()[0], stolen.placed("guard", stolen.unapproved)])

    second = stolen.refuses(for_it_too, "unapproved")
    assert stolen.processes() == before
    say(f"approved by OT alone: {word}; the same key speaking for IT: {second}")


def test_10_a_node_whose_disk_was_put_back_is_noticed_and_comes_forward(stolen: StolenCentre, say: Any) -> None:
    def reported() -> int:
        with stolen.thief.store.read() as conn:
            return next(one.report.trust.director_version for one in sites.reports(conn, [SITE]))

    def told() -> list[str]:
        found = stolen.running.operator().get("/events", params={"site": SITE}).json()
        return [one["text"] for one in found if one["kind"] == "node-went-back"]

    before = stolen.processes()
    kept = stolen.folder / "kept"
    stolen.agent.stop()
    shutil.copytree(stolen.state / "trust", kept, symlinks=True)
    ledger = (stolen.state / "ledger.json").read_bytes()
    old = accepted_version(stolen.state, "director", "timestamp.json")
    stolen.agent.start()
    stolen.takes(lambda: stolen.thief.tell(stolen.honest()))
    stolen.until(lambda: reported() == stolen.thief.version, "the centre was not told what it holds")
    known = len(told())  # a root that took back a key that had sent it ahead looks much the same
    stolen.agent.stop()
    shutil.rmtree(stolen.state / "trust")
    kept.rename(stolen.state / "trust")
    (stolen.state / "ledger.json").write_bytes(ledger)
    assert accepted_version(stolen.state, "director", "timestamp.json") == old
    stolen.agent.start()
    stolen.until(lambda: len(told()) > known, "the centre did not notice")
    stolen.until(lambda: stolen.status().get("generation") == stolen.thief.generation, "it did not come forward")
    assert len(told()) == known + 1
    assert stolen.processes() == before
    say(f"the centre says: {told()[0]}; the node took the newest instructions, the same processes ran on")
