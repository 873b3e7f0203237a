"""A blob is whole, right and synced, or not there; parts go on where they were cut."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import blobs as module
from agent.blobs import BlobStore
from agent.client import BlobStream
from manifests.errors import MachineError, TrustError, UnreachableError
from manifests.model import Blob
from tests.support.clock import ManualClock

DATA = bytes(range(256)) * 400


def blob_of(data: bytes) -> Blob:
    return Blob(digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data))


class Far:
    """A far side that serves ``data``; ``cuts`` are the lengths after which its next answers end."""

    def __init__(self, data: bytes = DATA, *, chunk: int = 1000, ranges: bool = True) -> None:
        self.data = data
        self.cuts: list[int] = []
        self.offsets: list[int] = []
        self.chunk = chunk
        self.ranges = ranges
        self.on_chunk: Callable[[], None] = lambda: None

    @contextmanager
    def get_blob(self, digest: str, offset: int = 0, *, deadline_s: float = 600.0) -> Iterator[BlobStream]:
        self.offsets.append(offset)
        begin = offset if self.ranges else 0
        cut = self.cuts.pop(0) if self.cuts else None
        yield BlobStream(begin, self._chunks(begin, cut))

    def _chunks(self, begin: int, cut: int | None) -> Iterator[bytes]:
        end = len(self.data) if cut is None else begin + cut
        for at in range(begin, min(end, len(self.data)), self.chunk):
            self.on_chunk()
            yield self.data[at : min(at + self.chunk, end)]
        if cut is not None:
            raise UnreachableError("cut")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path, reserve_bytes=0)


def test_a_blob_is_fetched_once(store: BlobStore) -> None:
    far, blob = Far(), blob_of(DATA)
    assert not store.has(blob.digest)
    assert store.fetch(far, blob).read_bytes() == DATA
    assert store.has(blob.digest)
    store.fetch(far, blob)
    assert far.offsets == [0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6), ranges=st.booleans())
def test_however_the_line_is_cut_the_blob_comes_out_right(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], ranges: bool
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"), reserve_bytes=0)
    far, blob = Far(ranges=ranges), blob_of(DATA)
    far.cuts = list(cuts)
    for _ in range(len(cuts) + 1):
        try:
            path = store.fetch(far, blob)
            break
        except UnreachableError:
            assert not store.has(blob.digest)
    assert path.read_bytes() == DATA
    if ranges:
        assert far.offsets == sorted(far.offsets)


def test_a_cut_blob_goes_on_where_it_was_cut_even_after_a_restart(tmp_path: Path) -> None:
    far, blob = Far(), blob_of(DATA)
    far.cuts = [30_000]
    with pytest.raises(UnreachableError):
        BlobStore(tmp_path, reserve_bytes=0).fetch(far, blob)
    BlobStore(tmp_path, reserve_bytes=0).fetch(far, blob)
    assert far.offsets == [0, 30_000]


def test_wrong_bytes_are_removed_and_named(store: BlobStore, tmp_path: Path) -> None:
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(TrustError) as caught:
        store.fetch(Far(wrong), blob_of(DATA))
    assert caught.value.kind == "bad-digest"
    assert list((tmp_path / "parts").iterdir()) == []
    store.fetch(Far(), blob_of(DATA))


def test_a_damaged_part_costs_one_more_try_not_the_blob(store: BlobStore, tmp_path: Path) -> None:
    blob = blob_of(DATA)
    (tmp_path / "parts" / blob.digest[7:]).write_bytes(b"\xff" * 5000)
    with pytest.raises(TrustError):
        store.fetch(Far(), blob)
    store.fetch(Far(), blob)


def test_more_than_was_signed_is_refused_at_once(store: BlobStore, tmp_path: Path) -> None:
    blob = blob_of(DATA)
    far = Far(DATA + bytes(1_000_000))
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    far.on_chunk = count
    with pytest.raises(TrustError) as caught:
        store.fetch(far, blob)
    assert caught.value.kind == "oversized"
    assert taken == len(DATA) // far.chunk + 1
    assert list((tmp_path / "parts").iterdir()) == []


def test_less_than_was_signed_is_kept_for_the_next_try(store: BlobStore) -> None:
    with pytest.raises(UnreachableError, match="cut after 50000"):
        store.fetch(Far(DATA[:50_000]), blob_of(DATA))
    far = Far()
    store.fetch(far, blob_of(DATA))
    assert far.offsets == [50_000]


def test_a_line_that_is_too_slow_is_given_up_and_its_bytes_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    store = BlobStore(tmp_path, reserve_bytes=0, min_rate_bytes_s=1000, grace_s=10, clock=clock.monotonic)
    far, blob = Far(chunk=100), blob_of(DATA)
    (tmp_path / "parts" / blob.digest[7:]).write_bytes(DATA[:90_000])  # resumed bytes do not count
    far.on_chunk = lambda: clock.advance(1.0)
    with pytest.raises(UnreachableError, match="too slow: 100 bytes/s"):
        store.fetch(far, blob)
    far.on_chunk = lambda: None
    store.fetch(far, blob)
    assert far.offsets[1] > 90_000


def test_a_full_disk_is_a_clean_error_and_gives_back_what_it_took(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(MachineError, match="No space left") as caught:
        store.fetch(Far(), blob_of(DATA))
    assert caught.value.remedy == "free some space"
    assert list((tmp_path / "parts").iterdir()) == []
    monkeypatch.undo()
    store.fetch(Far(), blob_of(DATA))


def test_the_disks_reserve_is_not_touched(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, reserve_bytes=1 << 60)
    far = Far()
    with pytest.raises(MachineError, match="not enough disk"):
        store.fetch(far, blob_of(DATA))
    assert far.offsets == []


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    assert store.fetch(Far(b""), blob_of(b"")).read_bytes() == b""


def test_a_blob_changed_on_disk_is_found_and_removed(store: BlobStore) -> None:
    blob = blob_of(DATA)
    path = store.fetch(Far(), blob)
    assert store.verify(blob.digest)
    path.write_bytes(b"\x01" + DATA[1:])
    assert not store.verify(blob.digest)
    assert not store.has(blob.digest)


def test_only_what_is_named_is_kept(store: BlobStore, tmp_path: Path) -> None:
    one, two = blob_of(DATA), blob_of(b"two")
    store.fetch(Far(), one)
    store.fetch(Far(b"two"), two)
    (tmp_path / "parts" / ("c" * 64)).write_bytes(b"part")
    assert store.forget_except([one.digest]) == 3 + 4
    assert store.has(one.digest)
    assert not store.has(two.digest)


def test_threads_that_want_the_same_blob_fetch_it_once(store: BlobStore) -> None:
    far, blob = Far(), blob_of(DATA)
    threads = [threading.Thread(target=store.fetch, args=(far, blob)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert far.offsets == [0]


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../x", "sha512:" + "a" * 64, "sha256:" + "A" * 64, "x\n"])
def test_what_is_no_digest_reaches_no_path(store: BlobStore, digest: str) -> None:
    with pytest.raises(TrustError):
        store.has(digest)
