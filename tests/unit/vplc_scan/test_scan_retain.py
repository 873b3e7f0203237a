"""Retained sets: which one counts, what of it returns, and that a damaged one never does."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from tests.unit.vplc_scan import scan_documents as documents
from vplc.scan import layout, retain

HEAD = struct.Struct("<8sQqIIII")


def made(*variables: dict[str, Any]) -> layout.Layout:
    return layout.parse(documents.document(list(variables)), "t.json")


def keep(path: str, kind: str, offset: int, size: int, **more: Any) -> dict[str, Any]:
    return dict(documents.variable(path, kind, offset, size, retain=True, **more))


def save(found: layout.Layout, state: bytes, sequence: int = 2, time_ns: int = 50) -> bytes:
    """A set as the host writes it."""
    kept = retain.retained(found)
    data = b"".join(state[start : start + size] for start, size in kept.runs)
    head = HEAD.pack(b"VPLCRET1", sequence, time_ns, len(kept.directory), len(data), 0, 0)
    crc = zlib.crc32(data, zlib.crc32(kept.directory, zlib.crc32(head)))
    return HEAD.pack(b"VPLCRET1", sequence, time_ns, len(kept.directory), len(data), crc, 0) + kept.directory + data


OLD = made(
    keep("P1.count", "DINT", 0, 4),
    keep("P1.on", "BOOL", 8, 1),
    keep("m", "BOOL", 144, 1, bit=3),
    keep("n", "BOOL", 144, 1, bit=5),
)
STATE = bytearray(256)
STATE[0:4] = (1234).to_bytes(4, "little")
STATE[8] = 1
STATE[144] = 1 << 3


def test_neighbours_are_saved_as_one_run_and_bits_of_a_byte_once() -> None:
    found = made(
        keep("a", "DINT", 0, 4),
        keep("b", "DINT", 4, 4),
        keep("c", "BOOL", 20, 1, bit=0),
        keep("d", "BOOL", 20, 1, bit=1),
    )
    kept = retain.retained(found)
    assert kept.runs == ((0, 8), (20, 1))
    assert json.loads(kept.directory)[3] == ["d", "BOOL", 8, 1, 1]


def test_values_return_by_path_wherever_they_lie_now() -> None:
    saved = retain.read_set(save(OLD, STATE))
    assert saved is not None
    new = made(
        keep("m", "BOOL", 150, 1, bit=0),
        keep("P1.ON", "BOOL", 3, 1),
        keep("n", "BOOL", 150, 1, bit=1),
        keep("P1.count", "DINT", 16, 4),
    )
    done = retain.restore(new, saved, {})
    assert done.report == ()
    assert {(p.offset, p.data, p.bit) for p in done.patches} == {
        (16, (1234).to_bytes(4, "little"), -1),
        (3, b"\x01", -1),
        (150, b"\x01", 0),
        (150, b"\x00", 1),
    }


def test_type_change_rename_and_news_are_reported_and_not_guessed() -> None:
    saved = retain.read_set(save(OLD, STATE))
    assert saved is not None
    new = made(
        keep("P1.counter", "DINT", 0, 4),
        keep("P1.on", "INT", 8, 2),
        keep("m", "BOOL", 144, 1, bit=3),
        keep("n", "BOOL", 144, 1, bit=5),
    )
    done = retain.restore(new, saved, {})
    assert len(done.patches) == 2
    text = "\n".join(done.report)
    assert "P1.on was BOOL and is INT now" in text
    assert "P1.count is gone" in text
    assert '{"P1.count": "P1.counter"}' in text
    assert "P1.counter is new" in text


def test_a_declared_rename_carries_the_value_and_whole_instances() -> None:
    old = made(keep("P1.pid.sum", "REAL", 0, 4), keep("P1.x", "DINT", 4, 4))
    saved = retain.read_set(save(old, bytes(range(8))))
    assert saved is not None
    new = made(keep("P2.control.sum", "REAL", 40, 4), keep("P1.y", "DINT", 48, 4))
    done = retain.restore(new, saved, {"P1.pid": "P2.control", "P1.x": "P1.y"})
    assert done.report == ()
    assert {p.offset: p.data for p in done.patches} == {40: bytes(range(4)), 48: bytes(range(4, 8))}


def test_the_newest_whole_set_counts_and_its_file_is_not_written_first() -> None:
    old, new = save(OLD, STATE, 6), save(OLD, STATE, 7, time_ns=99)
    found = retain.newest([old, new])
    assert found is not None
    assert found.sequence == 7
    assert found.scan_time_ns == 99
    assert retain.next_sequence(old, new) == 8
    assert retain.next_sequence(old, b"") == 7
    assert retain.next_sequence(new, b"") % 2 == 1  # the newest lies in file a: write b
    assert retain.next_sequence(b"", b"junk") == 2


def test_a_set_cut_at_any_byte_leaves_the_other_one() -> None:
    old, new = save(OLD, STATE, 6), save(OLD, bytes(256), 7)
    for cut in range(len(new)):
        found = retain.newest([old, new[:cut]])
        assert found is not None
        assert found.sequence == 6
        # An overwritten file of the same length: the begin is new, the rest still an older set.
        torn = new[:cut] + save(OLD, STATE, 5)[cut:]
        found = retain.newest([old, torn])
        assert found is not None
        assert found.sequence == 6, cut


def test_a_set_with_any_byte_changed_is_not_believed() -> None:
    whole = save(OLD, STATE, 6)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        assert retain.read_set(bytes(changed)) is None, at
    assert retain.read_set(whole + b"\0") is None
