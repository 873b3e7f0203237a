"""The witness lets one drive, never both."""

from __future__ import annotations

import random

from vplc.scan.witness import ASK, DENY, GRANT, MAGIC, PACKET, Holder, Witness, decide

MS = 1_000_000


def test_a_lease_is_renewed_by_its_holder_and_denied_to_the_other() -> None:
    first = decide(None, 0, 1, 30 * MS, 0)
    assert first == Holder(0, 1, 30 * MS)
    assert decide(first, 0, 1, 30 * MS, 20 * MS) == Holder(0, 1, 50 * MS)
    assert decide(first, 1, 2, 30 * MS, 29 * MS) is None


def test_a_take_over_needs_a_higher_epoch_and_the_former_leader_never_returns_with_its_own() -> None:
    first = decide(None, 0, 1, 30 * MS, 0)
    assert decide(first, 1, 1, 30 * MS, 40 * MS) is None
    second = decide(first, 1, 2, 30 * MS, 40 * MS)
    assert second == Holder(1, 2, 70 * MS)
    assert decide(second, 0, 1, 30 * MS, 900 * MS) is None
    assert decide(second, 0, 3, 30 * MS, 900 * MS) == Holder(0, 3, 930 * MS)


def test_two_sides_that_ask_at_any_time_never_hold_leases_at_the_same_time() -> None:
    chance = random.Random(3)
    holder, now = None, 0
    until = [0, 0]
    for _ in range(20_000):
        now += chance.randrange(20 * MS)
        side = chance.randrange(2)
        epoch = (holder.epoch if holder else 0) + chance.randrange(2)
        granted = decide(holder, side, epoch, 30 * MS, now)
        if granted is not None:
            holder = granted
            assert until[1 - side] <= now
            until[side] = granted.until_ns


def question(pair: int, side: int, epoch: int, lease: int = 30 * MS) -> bytes:
    return PACKET.pack(MAGIC, ASK, side, epoch, 0, 0, 0, 0, 0, 5, 9, pair, lease)


def test_pairs_are_apart_and_a_new_witness_is_silent_for_one_lease() -> None:
    now = [0]
    witness = Witness(lambda: now[0])
    assert witness.answer(question(1, 0, 1)) is None
    now[0] = 30 * MS
    kinds = [PACKET.unpack(witness.answer(question(*q)) or b"")[1] for q in ((1, 0, 1), (1, 1, 2), (2, 1, 1))]
    assert kinds == [GRANT, DENY, GRANT]
    for garbage in (b"", b"x" * 64, question(1, 0, 1)[:-1], question(1, 2, 1), question(1, 0, 1, 0)):
        assert witness.answer(garbage) is None
