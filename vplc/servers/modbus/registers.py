"""Which bytes of the state a Modbus address means, and which variables a write touches. Pure.

Bits: address = base + 8 * byte + bit, so %QX1.3 is coil base + 11. Registers: address = base + number of the word, so
%MW5 is holding register base + 5, and %MD2 holds the registers 4 and 5. Memory is little-endian, so the low word of a
32-bit value lies in the lower register; with `word_order` big (what most HMIs take for granted) the words of every
variable of 32 and 64 bits are served in the opposite order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vplc.scan import values
from vplc.scan.errors import Problem
from vplc.scan.layout import Variable
from vplc.scan.values import Json
from vplc.servers.configuration import Grants, Modbus
from vplc.servers.memory import Span
from vplc.servers.modbus.frames import Code, ModbusError
from vplc.servers.model import Model

_AREAS = {"inputs": "I", "outputs": "Q", "memory": "M"}
_ARRAY = re.compile(r"ARRAY\s*\[[^\]]*\]\s*OF\s+(.+)$", re.IGNORECASE)
_BITS = ("coils", "discrete_inputs")


@dataclass(frozen=True, slots=True)
class Place:
    """An area of the program within a table: `begin` and `count` in addresses."""

    area: str
    begin: int
    count: int
    offset: int


class Registers:
    """The tables of one version of a program."""

    def __init__(self, model: Model, settings: Modbus) -> None:
        self.model, self._settings = model, settings
        self.places: dict[str, list[Place]] = {}
        for table, begins in settings.tables.items():
            rows = []
            for name, begin in begins.items():
                offset, size = model.areas[_AREAS[name]]
                count = size * 8 if table in _BITS else (size + 1) // 2
                if count:
                    rows.append(Place(_AREAS[name], begin, count, offset))
            self.places[table] = sorted(rows, key=lambda p: p.begin)
        self._located: dict[str, list[Variable]] = {"I": [], "Q": [], "M": []}
        for v in model.known.rows:
            for area, (offset, size) in model.areas.items():
                if offset <= v.offset < offset + size:
                    self._located[area].append(v)
        self._orders = {area: self._order(area) for area in self._located}

    def problems(self, where: str) -> list[Problem]:
        """Areas that run into the next, or out of their table."""
        out = []
        for table, rows in self.places.items():
            for i, place in enumerate(rows):
                end = rows[i + 1].begin if i + 1 < len(rows) else 65536
                if place.begin + place.count > end:
                    what = f"%{place.area} of this program needs the addresses {place.begin} to "
                    what += f"{place.begin + place.count - 1}; {end} is beyond"
                    out.append(Problem(f"{where} map.{table}", what, "let the next area begin later"))
        return out

    def _order(self, area: str) -> dict[int, int]:
        """Word of the table -> word of memory, where they differ."""
        out: dict[int, int] = {}
        if self._settings.word_order == "little":
            return out
        begin = self.model.areas[area][0]
        for v in self._located[area]:
            array = _ARRAY.match(v.base)
            base = array.group(1) if array else v.base
            size = values.SIZES.get(base) or (v.size if not array else 0)
            at = v.offset - begin
            if size not in (4, 8) or at % 2 or v.bit >= 0 or v.size % size:
                continue
            words = size // 2
            for first in range(at // 2, (at + v.size) // 2, words):
                out.update({first + i: first + words - 1 - i for i in range(words)})
        return out

    def _place(self, table: str, address: int, count: int) -> tuple[Place, int]:
        for place in self.places[table]:
            if place.begin <= address and address + count <= place.begin + place.count:
                return place, address - place.begin
        raise ModbusError(Code.ADDRESS, f"{table} has nothing at {address} to {address + count - 1}")

    def span(self, table: str, address: int, count: int) -> Span:
        """What to read for an answer: of one scan, because it fits one request."""
        place, first = self._place(table, address, count)
        if table in _BITS:
            return place.offset + first // 8, (first + count - 1) // 8 - first // 8 + 1
        low, high = self._words(place, first, count)
        return place.offset + 2 * low, 2 * (high - low)

    def _words(self, place: Place, first: int, count: int) -> tuple[int, int]:
        order = self._orders[place.area]
        wanted = [order.get(n, n) for n in range(first, first + count)]
        return min(wanted), max(wanted) + 1

    def decode(self, table: str, address: int, count: int, data: bytes) -> list[int]:
        """The values of a table out of the bytes of its `span`."""
        place, first = self._place(table, address, count)
        if table in _BITS:
            skip = first % 8
            return [data[(skip + i) // 8] >> (skip + i) % 8 & 1 for i in range(count)]
        low, _ = self._words(place, first, count)
        words = struct.unpack(f"<{len(data) // 2}H", data)
        order = self._orders[place.area]
        return [words[order.get(n, n) - low] for n in range(first, first + count)]

    # -- writing -------------------------------------------------------------------------------------

    def changes(self, table: str, address: int, given: Sequence[int], grants: Grants) -> dict[str, Json]:
        """Values by path for a write. Raises ModbusError: ADDRESS when an address belongs to no writable variable or
        only a part of one is given, VALUE when a bound is broken."""
        place, first = self._place(table, address, len(given))
        if place.area != "M" and not (place.area == "Q" and self._settings.outputs):
            raise ModbusError(Code.ADDRESS, f"%{place.area} is not writable")
        found = self._bits(place, first, given) if table in _BITS else self._values(place, first, given, grants)
        for path, value in found.items():
            grant = grants.get(path.upper())
            if grant is None:
                raise ModbusError(Code.ADDRESS, f"{path} is not writable")
            why = grant.refusal(value)
            if why:
                raise ModbusError(Code.VALUE, f"{path}: {why}")
        return found

    def _bits(self, place: Place, first: int, given: Sequence[int]) -> dict[str, Json]:
        at = {(v.offset, v.bit): v for v in self._located[place.area] if v.bit >= 0}
        out: dict[str, Json] = {}
        for i, bit in enumerate(given):
            v = at.get((place.offset + (first + i) // 8, (first + i) % 8))
            if v is None:
                raise ModbusError(Code.ADDRESS, f"bit {first + i} of %{place.area} is no BOOL variable")
            out[v.path] = bool(bit)
        return out

    def _values(self, place: Place, first: int, given: Sequence[int], grants: Grants) -> dict[str, Json]:
        order = self._orders[place.area]
        words = {order.get(first + i, first + i): value for i, value in enumerate(given)}
        touched = [
            v
            for v in self._located[place.area]
            if any((v.offset - place.offset) // 2 <= n <= (v.offset - place.offset + v.size - 1) // 2 for n in words)
        ]
        # Of variables that share memory the writable ones count, the larger first.
        touched.sort(key=lambda v: (v.path.upper() not in grants, -v.size))
        taken: set[int] = set()
        out: dict[str, Json] = {}
        for v in touched:
            at = v.offset - place.offset
            bits = {at * 8 + v.bit} if v.bit >= 0 else set(range(at * 8, (at + v.size) * 8))
            if bits <= taken:
                continue
            if bits & taken:
                raise ModbusError(Code.ADDRESS, f"{v.path} shares memory with another variable")
            missing = [n for n in range(at // 2, (at + v.size - 1) // 2 + 1) if n not in words]
            if missing:
                raise ModbusError(Code.ADDRESS, f"only a part of {v.path} is given")
            low = at // 2
            raw = b"".join(struct.pack("<H", words[n]) for n in range(low, (at + v.size - 1) // 2 + 1))
            out[v.path] = value_of(v, raw[at - 2 * low :][: v.size])
            taken |= bits
        empty = [n for n in words if not any(b // 16 == n for b in taken)]
        if empty:
            raise ModbusError(Code.ADDRESS, f"word {empty[0]} of %{place.area} is no variable")
        return out


def value_of(v: Variable, data: bytes) -> Json:
    """As `values.decode`, with every bit of a REAL: what is written must be what was sent."""
    array = _ARRAY.match(v.base)
    base = array.group(1) if array else v.base
    if base in ("REAL", "LREAL"):
        found = list(struct.unpack(f"<{len(data) // values.SIZES[base]}{'f' if base == 'REAL' else 'd'}", data))
        return found if array else found[0]
    return values.decode(v.base, data, v.bit)
