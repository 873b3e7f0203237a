"""Trust and blobs over the real line: enrolled, told, fetched, cut, and resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.blobs import BlobStore
from agent.client import OrchestratorClient
from agent.enrol import enrol
from agent.verify import TrustStore
from manifests.errors import TrustError, UnreachableError
from manifests.model import Blob
from tests.support import orchestrator_fake as fake
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.releases import a_release

DATA = bytes(range(256)) * 8000


def test_from_a_token_to_an_activated_state_and_through_an_outage(far: OrchestratorFake, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    release = far.publish(a_release())
    far.assign("hamburg", [far.placed("press", release, config={"period_s": 0.5})])
    far.assign("leipzig", [], generation=9)
    identity = enrol("", far.token("hamburg"), tmp_path / "state")
    client = OrchestratorClient(identity.url, identity)
    store = TrustStore(tmp_path / "state" / "trust", identity)
    state = store.refresh(client, now)
    assert state.instances[0].release == release
    store.activate(state)

    far.stop()
    with pytest.raises(UnreachableError):
        store.refresh(client, now)
    assert TrustStore(tmp_path / "state" / "trust", identity).last_good(now) == state

    far.start()
    far.assign("hamburg", [], generation=2)
    assert store.refresh(client, now).instances == ()


def test_a_site_gets_the_director_of_its_own_certificate_whatever_it_asks(
    far: OrchestratorFake, tmp_path: Path
) -> None:
    far.assign("hamburg", [], generation=1)
    far.assign("leipzig", [], generation=9)
    now = datetime.now(UTC)
    stolen = far.identity(tmp_path / "stolen", "leipzig")
    client = OrchestratorClient(stolen.url, stolen)  # leipzig's certificate ...
    hamburg = TrustStore(tmp_path / "state" / "trust", far.identity(tmp_path / "state", "hamburg"))
    with pytest.raises(TrustError) as caught:
        hamburg.refresh(client, now)  # ... brings leipzig's orders only
    assert caught.value.kind == "wrong-site"


def test_a_blob_cut_three_times_comes_out_right(
    far: OrchestratorFake, client: OrchestratorClient, tmp_path: Path
) -> None:
    digest = far.add_blob(DATA)
    far.faults["/blobs"] = fake.CutAfter(400_000, times=3)
    store, blob = BlobStore(tmp_path / "blobs", reserve_bytes=0), Blob(digest=digest, size=len(DATA))
    for _ in range(3):
        with pytest.raises(UnreachableError):
            store.fetch(client, blob)
    assert store.fetch(client, blob).read_bytes() == DATA
    ranges = [asked for _, path, asked in far.requests if path.startswith("/blobs")]
    assert ranges == ["", "bytes=400000-", "bytes=800000-", "bytes=1200000-"]


def test_a_blob_that_is_not_there_is_waited_for(client: OrchestratorClient, tmp_path: Path) -> None:
    blob = Blob(digest="sha256:" + "0" * 64, size=3)
    with pytest.raises(UnreachableError, match="has no blob"):
        BlobStore(tmp_path / "blobs", reserve_bytes=0).fetch(client, blob)


def test_a_blob_with_a_wrong_byte_is_refused(far: OrchestratorFake, client: OrchestratorClient, tmp_path: Path) -> None:
    digest = far.add_blob(DATA)
    far.blobs[digest] = DATA[:-1] + b"\x00"
    store = BlobStore(tmp_path / "blobs", reserve_bytes=0)
    with pytest.raises(TrustError) as caught:
        store.fetch(client, Blob(digest=digest, size=len(DATA)))
    assert caught.value.kind == "bad-digest"


def test_a_range_that_was_not_asked_for_is_refused(
    far: OrchestratorFake, client: OrchestratorClient, tmp_path: Path
) -> None:
    digest = far.add_blob(DATA)

    def fault(handler: fake.Handler) -> bool:
        span = {"Content-Range": f"bytes 500-{len(DATA) - 1}/{len(DATA)}"}
        handler.reply(206, DATA[500:], headers=span)
        return True

    far.faults["/blobs"] = fault
    with pytest.raises(TrustError) as caught:
        BlobStore(tmp_path / "blobs", reserve_bytes=0).fetch(client, Blob(digest=digest, size=len(DATA)))
    assert caught.value.kind == "malformed"


def test_an_endless_blob_stops_at_its_signed_size(
    far: OrchestratorFake, client: OrchestratorClient, tmp_path: Path
) -> None:
    import threading

    stop = threading.Event()
    far.faults["/blobs"] = fake.endless(stop)
    try:
        with pytest.raises(TrustError) as caught:
            BlobStore(tmp_path / "blobs", reserve_bytes=0).fetch(
                client, Blob(digest="sha256:" + "1" * 64, size=100_000)
            )
    finally:
        stop.set()
    assert caught.value.kind == "oversized"
    assert list((tmp_path / "blobs" / "parts").iterdir()) == []
