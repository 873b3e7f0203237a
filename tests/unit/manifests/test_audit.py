"""Whatever is altered, dropped or reordered in an export is found, with heads that lie elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.audit import MAX_HEADS, AuditEntry, TreeHead, entry_text, odd_head, remember, verify_lines


def lines(count: int) -> list[str]:
    return [
        entry_text(
            AuditEntry(number=n, at_ns=1_780_000_000 * 10**9 + n, kind="rollout-started", actor="anna", text=f"ü {n}")
        )
        for n in range(count)
    ]


def head(found: Sequence[str]) -> TreeHead:
    return verify_lines(found, [])[0]


def test_a_whole_log_fits_every_head_it_ever_had() -> None:
    found = lines(20)
    heads = [head(found[:size]) for size in range(21)]
    assert verify_lines(found, heads) == (heads[20], [])


@given(st.data())
def test_every_change_before_a_witnessed_head_is_found(data: st.DataObject) -> None:
    found = lines(data.draw(st.integers(2, 40)))
    witnessed = head(found[: data.draw(st.integers(2, len(found)))])
    place = data.draw(st.integers(0, witnessed.size - 1))
    match data.draw(st.sampled_from(["alter", "drop", "swap", "insert", "cut"])):
        case "alter":
            found[place] = found[place].replace("anna", "eve")
        case "drop":
            del found[place]
        case "swap":
            other = (place + 1) % witnessed.size
            found[place], found[other] = found[other], found[place]
        case "insert":
            found.insert(place, found[place])
        case _:
            del found[witnessed.size - 1 :]
    assert verify_lines(found, [witnessed])[1]


def test_a_forged_log_that_was_renumbered_is_found_by_the_head_alone() -> None:
    found = lines(10)
    witnessed = head(found)
    forged = [entry_text(AuditEntry(number=n, at_ns=1, kind="x")) for n in range(10)]
    ((where, what),) = [(f.where, f.what) for f in verify_lines(forged, [witnessed])[1]]
    assert (where, "not the entries" in what) == ("head of 10", True)


@given(st.lists(st.text(max_size=30).filter(lambda t: "\n" not in t), max_size=8))
def test_junk_is_reported_line_by_line_and_never_raises(junk: list[str]) -> None:
    assert len(verify_lines(junk, [])[1]) == len(junk)


def test_a_witness_sees_another_head_for_a_size_and_a_log_that_shrank() -> None:
    found = lines(9)
    known = (head(found[:4]), head(found[:8]))
    assert odd_head(known, head(found)) == ""
    assert odd_head(known, known[0].__class__(size=8, root="0" * 64))
    assert "held 8 entries before and 6 now" in odd_head(known, head(found[:6]))


def test_a_witness_keeps_the_oldest_and_the_newest_heads_and_each_once() -> None:
    kept: tuple[TreeHead, ...] = ()
    for size in range(500):
        kept = remember(kept, TreeHead(size=size, root=f"{size:064x}"))
        kept = remember(kept, TreeHead(size=size, root=f"{size:064x}"))
    assert len(kept) == MAX_HEADS
    assert kept[0].size == 0
    assert kept[-1].size == 499


@pytest.mark.parametrize("root", ["", "0" * 63, "G" * 64])
def test_a_head_is_64_hex_digits(root: str) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"size": 1, "root": root}, TreeHead)
