"""An append-only log as a Merkle tree (RFC 9162, section 2.1; the same hashing as RFC 6962). Pure.

The centre keeps the audit log in such a tree, agents keep its heads, and the command line checks exports: whoever
holds an older head can tell whether anything was altered, dropped or put in another order since. Hashes are SHA-256,
32 bytes. Nothing here reads a clock, a disk or a database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF = 64  # hashes: a tree of 2**64 entries needs no more

# Gives the hash of a complete subtree: (level, index) covers the entries index * 2**level to (index + 1) * 2**level.
NodeAt = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Node:
    """A complete subtree that an append has finished; ``level`` 0 is the entry itself."""

    level: int
    index: int
    hash: bytes


def append(size: int, entry_hash: bytes, node_at: NodeAt) -> tuple[Node, ...]:
    """The complete subtrees that entry number ``size`` (from 0) finishes, itself first; the log then holds size + 1.

    ``node_at`` is asked for finished subtrees on the left of it only.
    """
    made = [Node(0, size, entry_hash)]
    while made[-1].index & 1:
        last = made[-1]
        left = node_at(last.level, last.index - 1)
        made.append(Node(last.level + 1, last.index >> 1, node_hash(left, last.hash)))
    return tuple(made)


def root(size: int, node_at: NodeAt) -> bytes:
    """The head of the first ``size`` entries."""
    return _range_root(0, size, node_at) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """That entry ``index`` is among the first ``size``. Raises ValueError when it is not."""
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not among {size}")
    proof: list[bytes] = []
    begin, end = 0, size
    path: list[tuple[int, int]] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    for first, last in reversed(path):
        proof.append(_range_root(first, last, node_at))
    return tuple(proof)


def consistency_proof(old: int, new: int, node_at: NodeAt) -> tuple[bytes, ...]:
    """That the first ``old`` entries are still the beginning of the first ``new``. Raises ValueError unless
    0 <= old <= new."""
    if not 0 <= old <= new:
        raise ValueError(f"{old} entries cannot be the beginning of {new}")
    if old in (0, new):
        return ()
    proof: list[bytes] = []
    begin, end, wanted, whole = 0, new, old, True
    path: list[tuple[int, int]] = []
    while wanted != end - begin:
        half = _split(end - begin)
        if wanted <= half:
            path.append((begin + half, end))
            end = begin + half
        else:
            path.append((begin, begin + half))
            begin += half
            wanted -= half
            whole = False
    if not whole:
        proof.append(_range_root(begin, end, node_at))
    for first, last in reversed(path):
        proof.append(_range_root(first, last, node_at))
    return tuple(proof)


def verify_inclusion(entry_hash: bytes, index: int, size: int, proof: Sequence[bytes], head: bytes) -> bool:
    """RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size or len(proof) > MAX_PROOF:
        return False
    number, last, found = index, size - 1, entry_hash
    for step in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node_hash(step, found)
            while number and not number & 1:
                number >>= 1
                last >>= 1
        else:
            found = node_hash(found, step)
        number >>= 1
        last >>= 1
    return last == 0 and found == head


def verify_consistency(old: int, old_head: bytes, new: int, new_head: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, section 2.1.4.2; an empty log is the beginning of every log."""
    if not 0 <= old <= new or len(proof) > MAX_PROOF:
        return False
    if old == new:
        return not proof and old_head == new_head
    if old == 0:
        return not proof and old_head == EMPTY_ROOT
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_head)
    if not steps:
        return False
    number, last = old - 1, new - 1
    while number & 1:
        number >>= 1
        last >>= 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while number and not number & 1:
                number >>= 1
                last >>= 1
        else:
            after = node_hash(after, step)
        number >>= 1
        last >>= 1
    return last == 0 and before == old_head and after == new_head


def _split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(begin: int, end: int, node_at: NodeAt) -> bytes:
    """``begin`` is a multiple of the power of two at or above the length, as every range of a proof is."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node_at(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_range_root(begin, middle, node_at), _range_root(middle, end, node_at))
