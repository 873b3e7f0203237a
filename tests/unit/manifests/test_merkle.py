"""The audit log's tree, against hashes that follow RFC 9162's own definition and against forgeries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import merkle

SIZES = 70


def recursive_root(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return hashlib.sha256(b"\x01" + recursive_root(entries[:split]) + recursive_root(entries[split:])).digest()


class Log:
    def __init__(self, entries: Sequence[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        for number, entry in enumerate(entries):
            for node in merkle.append(number, merkle.leaf_hash(entry), self.at):
                self.nodes[node.level, node.index] = node.hash

    def at(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


ENTRIES = [f"entry {n}".encode() for n in range(SIZES)]
LOG = Log(ENTRIES)
HEADS = [recursive_root(ENTRIES[:n]) for n in range(SIZES + 1)]


def test_the_head_of_every_size_is_the_recursive_definition() -> None:
    assert [merkle.root(size, LOG.at) for size in range(SIZES + 1)] == HEADS


def test_every_entry_is_proven_in_every_head_and_in_no_other() -> None:
    for size in range(1, SIZES + 1):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, LOG.at)
            leaf = merkle.leaf_hash(ENTRIES[index])
            assert merkle.verify_inclusion(leaf, index, size, proof, HEADS[size])
            assert not merkle.verify_inclusion(merkle.leaf_hash(b"forged"), index, size, proof, HEADS[size])
            assert not merkle.verify_inclusion(leaf, index, size, proof, HEADS[size - 1])
            assert not merkle.verify_inclusion(leaf, index, size, (*proof, HEADS[0]), HEADS[size])
            if size > 1:
                other = (index + 1) % size
                assert not merkle.verify_inclusion(leaf, other, size, proof, HEADS[size])
                assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], HEADS[size])


def test_every_older_head_is_proven_the_beginning_of_every_newer() -> None:
    for new in range(SIZES + 1):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, LOG.at)
            assert merkle.verify_consistency(old, HEADS[old], new, HEADS[new], proof)
            if old:
                forged = hashlib.sha256(HEADS[old]).digest()
                assert not merkle.verify_consistency(old, forged, new, HEADS[new], proof)
                assert not merkle.verify_consistency(old, HEADS[old], new, forged, proof)
                assert not merkle.verify_consistency(old, HEADS[old], new, HEADS[new], (*proof, HEADS[0]))


@settings(max_examples=200)
@given(st.data())
def test_an_altered_dropped_or_reordered_entry_breaks_consistency(data: st.DataObject) -> None:
    old = data.draw(st.integers(2, SIZES - 1))
    changed = list(ENTRIES)
    number = data.draw(st.integers(0, old - 1))
    match data.draw(st.sampled_from(["alter", "drop", "swap"])):
        case "alter":
            changed[number] += b"!"
        case "drop":
            del changed[number]
        case _:
            other = data.draw(st.integers(0, old - 1).filter(lambda n: n != number))
            changed[number], changed[other] = changed[other], changed[number]
    forged = Log(changed)
    new = len(changed)
    proof = merkle.consistency_proof(old, new, forged.at)
    assert not merkle.verify_consistency(old, HEADS[old], new, merkle.root(new, forged.at), proof)


def test_proofs_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="not among"):
        merkle.inclusion_proof(5, 5, LOG.at)
    with pytest.raises(ValueError, match="cannot be the beginning"):
        merkle.consistency_proof(6, 5, LOG.at)
    assert not merkle.verify_inclusion(HEADS[1], -1, 1, (), HEADS[1])
    assert not merkle.verify_inclusion(HEADS[1], 0, 1, [HEADS[0]] * 65, HEADS[1])
