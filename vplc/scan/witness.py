"""The third voice of a pair on two machines: lets one of two hosts drive, never both. Runs on a third machine.

`python -m vplc.scan witness ADDRESS`. Scan hosts ask by UDP (structs of native/network.c). The witness knows no program
and no value; when it is away the pair goes on as long as its two hosts hear each other.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from vplc.scan.errors import Problem, Refused

PACKET = struct.Struct("<IHHIIIIIIQQQQ")
MAGIC = 0x31504C56
ASK, GRANT, DENY = 5, 6, 7
MAX_PAIRS = 10_000
MAX_LEASE_NS = 600_000_000_000


@dataclass(frozen=True, slots=True)
class Holder:
    """Who may drive a pair's outputs, and until when (ns of the witness's own clock)."""

    side: int
    epoch: int
    until_ns: int


def decide(holder: Holder | None, side: int, epoch: int, lease_ns: int, now_ns: int) -> Holder | None:
    """The new holder, or None: denied. Pure. A host that takes over needs a higher epoch, and the lease before it
    must have ended."""
    if holder is not None:
        if epoch < holder.epoch:
            return None
        if side != holder.side and (now_ns < holder.until_ns or epoch == holder.epoch):
            return None
    return Holder(side, epoch, now_ns + lease_ns)


class Witness:
    """Answers the questions of any number of pairs."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._holders: dict[int, Holder] = {}
        self._begin = clock()

    def answer(self, data: bytes) -> bytes | None:
        """None: no question of a scan host, or too early to answer it."""
        if len(data) < PACKET.size:
            return None
        magic, kind, side, epoch, ready, *parts, sequence, life, pair, lease_ns = PACKET.unpack_from(data)
        if magic != MAGIC or kind != ASK or side > 1 or not 0 < lease_ns <= MAX_LEASE_NS:
            return None
        now = self._clock()
        if now - self._begin < lease_ns:
            return None  # a witness before this one may have let somebody drive
        before = self._holders.get(pair)
        if before is None and len(self._holders) >= MAX_PAIRS:
            return None
        holder = decide(before, side, epoch, lease_ns, now)
        if holder is not None:
            self._holders[pair] = holder
        known = holder or before
        shown = known.epoch if known else epoch
        return PACKET.pack(
            magic, GRANT if holder else DENY, side, shown, ready, *parts, sequence, life, pair, lease_ns
        )  # fmt: skip


def serve(address: str, listening: Callable[[str], None]) -> None:
    """Does not return. Raises Refused when the address cannot be used."""
    name, _, port = address.rpartition(":")
    name = name.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((name, int(port)))
        except (OSError, ValueError) as error:
            raise Refused(
                [Problem(address, f"cannot listen there: {error}", "give an address of this machine")]
            ) from error
        listening(address)
        witness = Witness()
        while True:
            data, sender = sock.recvfrom(2048)
            reply = witness.answer(data)
            if reply is not None:
                sock.sendto(reply, sender)
