"""The buffer on a real disk: killed with SIGKILL while it takes frames, and on a file system that is full."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.buffer import Buffer, Refusal
from manifests.messages import Frame, FrameKind, StreamMark

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import asyncio, sys
from pathlib import Path
from agent.buffer import Buffer
from agent.committer import Committer
from manifests.messages import Frame, FrameKind
first, life = int(sys.argv[2]), sys.argv[3]
def frame(stream, seq):
    kind = FrameKind.DESCRIPTOR if seq == 1 else FrameKind.SAMPLES
    return Frame(stream=stream, incarnation=life, seq=seq, kind=kind, count=1, payload=seq.to_bytes(8, "big") * 50)
async def produce(committer, stream, seq):
    while True:
        (mark,) = await committer.append([frame(stream, seq)])
        sys.stdout.write(f"{stream} {mark.seq}\\n"); sys.stdout.flush()
        seq = mark.seq + 1
async def main():
    committer = Committer(lambda: Buffer(Path(sys.argv[1]), 256 << 20), window_s=0.002)
    await committer.start()
    await asyncio.gather(*(produce(committer, f"{name}/data", first) for name in "abc"))
asyncio.run(main())
"""


def test_killed_again_and_again_everything_acknowledged_is_there_once_and_in_order(folder: Path) -> None:
    rng = random.Random(1)
    acked: dict[str, int] = {}
    for _ in range(5):
        first = min(acked.values(), default=0) + 1
        command = [sys.executable, "-c", WRITER, str(folder), str(first), "life"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(20, 200)):
                stream, seq = writer.stdout.readline().split()
                acked[stream] = max(acked.get(stream, 0), int(seq))
            writer.kill()
            for line in writer.stdout:  # what was acknowledged before the kill but not yet read
                if line.endswith("\n") and len(line.split()) == 2:
                    stream, seq = line.split()
                    acked[stream] = max(acked[stream], int(seq))
    buffer = Buffer(folder, 256 << 20)
    held: dict[str, list[Frame]] = {}
    while frames := buffer.batch(1000, 8 << 20):
        for frame in frames:
            held.setdefault(frame.stream, []).append(frame)
        ends = {frame.stream: frame.end for frame in frames}
        buffer.confirm([StreamMark(stream=s, incarnation="life", seq=seq) for s, seq in ends.items()], 1)
    buffer.close()
    assert set(held) == set(acked) == {"a/data", "b/data", "c/data"}
    for stream, found in held.items():
        assert [frame.seq for frame in found] == list(range(1, len(found) + 1))
        assert len(found) >= acked[stream] > 20
        assert all(frame.payload == frame.seq.to_bytes(8, "big") * 50 for frame in found)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """8 MB of their own; needs the right to mount."""
    place = folder / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
    )
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("not allowed to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def samples(seq: int, size: int = 3900) -> Frame:
    kind = FrameKind.DESCRIPTOR if seq == 1 else FrameKind.SAMPLES
    return Frame(stream="m/data", incarnation="a", seq=seq, kind=kind, count=seq > 1, payload=bytes(size))


def test_on_a_full_disk_it_drops_the_oldest_counts_them_and_can_still_deliver(small_disk: Path) -> None:
    buffer = Buffer(small_disk, 1 << 30)  # a cap that the disk cannot hold
    for seq in range(1, 5001):
        (result,) = buffer.append([samples(seq)], seq)
        assert isinstance(result, StreamMark), (seq, result)
    status = buffer.status()
    assert status.dropped_samples > 3000
    total = last = 0
    while frames := buffer.batch(64, 1 << 20):
        for frame in frames:
            assert frame.seq == last + 1
            last = frame.end
            total += frame.count
        buffer.confirm([StreamMark(stream="m/data", incarnation="a", seq=last)], 1)
    assert (last, total) == (5000, 4999)
    buffer.close()


def test_on_a_disk_filled_by_others_it_lives_within_what_it_has_and_deleting_still_works(small_disk: Path) -> None:
    buffer = Buffer(small_disk, 1 << 30)
    for seq in range(1, 301):
        buffer.append([samples(seq)], seq)
    with (small_disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while other.write(bytes(4096)):
            pass
    seq = 301
    for _ in range(600):
        (result,) = buffer.append([samples(seq)], seq)
        if isinstance(result, Refusal):
            assert result.retryable
        else:
            seq += 1
    assert seq > 600
    sent = buffer.batch(64, 1 << 20)
    buffer.confirm([StreamMark(stream="m/data", incarnation="a", seq=sent[-1].end)], 1)
    assert buffer.batch(64, 1 << 20)[0].seq == sent[-1].end + 1
    (small_disk / "other").unlink()
    (result,) = buffer.append([samples(seq)], seq)
    assert isinstance(result, StreamMark)
    buffer.close()
    again = Buffer(small_disk, 1 << 30)
    assert again.marks([("m/data", "a")])[0].seq == seq
    again.close()
