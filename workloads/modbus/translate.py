"""From a list of tags to few reads, and from the bytes of a response to values: compiled once, no I/O, no clock.

Called by ``device``. Tags are gathered into reads (``coalesce``); each read gets a ``Translation`` that unpacks a whole
response with precompiled structs, compares raw values with what was told last and scales only what is worth telling.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manifests.block import Quality
from manifests.messages import Tag, TagType
from workloads.kit.deadband import width
from workloads.kit.samples import NAN, TagSpec, TagTable
from workloads.modbus.config import BIT_AREAS, Area, Device, Forbidden, Group, ReadConfig, TagConfig

FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A tag of a device: its number in the stream and where it lies."""

    tag: int
    config: TagConfig

    @property
    def end(self) -> int:
        return self.config.address + self.config.words


@dataclass(frozen=True, slots=True)
class Read:
    """One request: ``count`` addresses from ``address``, and the points it serves."""

    area: Area
    address: int
    count: int
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.area} {self.address} to {self.address + self.count - 1}"


def coalesce(points: Iterable[Point], limits: ReadConfig) -> list[Read]:
    """As few reads as the limits allow; every point is in exactly one, no read touches a forbidden address."""
    reads: list[Read] = []
    ordered = sorted(points, key=lambda point: (point.config.area, point.config.address, point.end))
    run: list[Point] = []
    for point in ordered:
        if run and not _joins(run, point, limits):
            reads.append(_read(run))
            run = []
        run.append(point)
    if run:
        reads.append(_read(run))
    return reads


def _joins(run: Sequence[Point], point: Point, limits: ReadConfig) -> bool:
    area = point.config.area
    if area != run[0].config.area:
        return False
    first = run[0].config.address
    end = max(other.end for other in run)
    most = limits.max_bits if area in BIT_AREAS else limits.max_registers
    new_end = max(end, point.end)
    return (
        point.config.address - end <= limits.max_gap
        and new_end - first <= most
        and not touches(limits.forbidden, area, first, new_end)
    )


def touches(forbidden: Iterable[Forbidden], area: Area, first: int, end: int) -> bool:
    """Does the half-open range ``first..end`` contain a forbidden address?"""
    return any(zone.area == area and zone.first < end and first <= zone.last for zone in forbidden)


def _read(run: Sequence[Point]) -> Read:
    first = run[0].config.address
    return Read(run[0].config.area, first, max(point.end for point in run) - first, tuple(run))


def byte_count(read: Read) -> int:
    """Data bytes of a right answer."""
    return (read.count + 7) // 8 if read.area in BIT_AREAS else 2 * read.count


def halves(read: Read) -> tuple[Read, Read]:
    """Two reads instead of one that the device refused. Raises ValueError for a read of a single point."""
    middle = len(read.points) // 2
    if middle == 0:
        raise ValueError(f"{read} serves a single tag")
    return _read(read.points[:middle]), _read(read.points[middle:])


# ---------------------------------------------------------------- tags


def tag_type(config: TagConfig) -> TagType:
    if config.area in BIT_AREAS or config.type == "bool" or config.bit is not None:
        return TagType.BOOL
    if config.type.startswith("string"):
        return TagType.STRING
    if config.type.startswith("float") or config.scale != int(config.scale) or config.offset != int(config.offset):
        return TagType.FLOAT
    return TagType.INT


def spec(number: int, config: TagConfig, device: Device, group: Group, prefix: str, max_silence_ms: int) -> TagSpec:
    """The tag as it is declared; ``prefix`` is ``<enterprise>/<site>``. Polling happens every interval, so a tag is
    told again one interval before its silence would be too long."""
    place = config.place or device.place
    where = f"{config.area} {config.address}" + (f".{config.bit}" if config.bit is not None else "")
    order = f" {config.byte_order}" if config.words > 1 or config.byte_order != "ABCD" else ""
    kind = "" if config.area in BIT_AREAS else f" {config.type}{order}"
    tag = Tag(
        id=number,
        topic=f"{prefix}/{place.area}/{place.line}/{place.asset}/{config.name}",
        type=tag_type(config),
        unit=config.unit,
        description=config.description,
        source=f"{device.name}: {where}{kind}",
        low=config.low,
        high=config.high,
    )
    silence_ms = max(0, max_silence_ms - group.interval_ms)
    return TagSpec(tag, width(config.deadband, config.low, config.high), silence_ms * 1_000_000)


# ---------------------------------------------------------------- unpacking

# How the payload is looked at before a struct unpacks it. Two-word values with swapped words come right when all
# words of the payload are reversed and the value is taken from the mirrored place: one operation per read, not
# one per value.
STRAIGHT, SWAPPED_BYTES, REVERSED_WORDS = range(3)


@dataclass(frozen=True, slots=True)
class _Field:
    view: int
    little: bool
    offset: int  # bytes, in that view
    format: str

    @property
    def size(self) -> int:
        return struct.calcsize("=" + self.format)


def _field(config: TagConfig, read: Read) -> _Field:
    at = config.address - read.address
    swapped = config.byte_order in ("BADC", "DCBA")
    if config.type.startswith("string"):
        return _Field(SWAPPED_BYTES if swapped else STRAIGHT, False, 2 * at, f"{2 * config.words}s")
    if config.words == 1:
        return _Field(STRAIGHT, swapped, 2 * at, "H" if config.bit is not None else FORMATS[config.type])
    form = FORMATS[config.type]
    if config.byte_order == "CDAB":
        return _Field(REVERSED_WORDS, False, 2 * (read.count - at - config.words), form)
    if config.byte_order == "BADC":
        return _Field(SWAPPED_BYTES, False, 2 * at, form)
    return _Field(STRAIGHT, config.byte_order == "DCBA", 2 * at, form)


def _layers(fields: Sequence[_Field], total: int) -> list[tuple[int, struct.Struct, list[_Field]]]:
    """Structs that unpack all fields; several where views, byte orders or overlapping tags need it."""
    layers: list[tuple[int, struct.Struct, list[_Field]]] = []
    rest = sorted(set(fields), key=lambda field: (field.view, field.little, field.offset, field.format))
    while rest:
        head, position, form, taken, left = rest[0], 0, "", [], []
        for field in rest:
            same = (field.view, field.little) == (head.view, head.little)
            if not same or field.offset < position:
                left.append(field)
                continue
            form += f"{field.offset - position}x{field.format}"
            position = field.offset + field.size
            taken.append(field)
        layers.append((head.view, struct.Struct(f"{'<' if head.little else '>'}{form}{total - position}x"), taken))
        rest = left
    return layers


class Unpacker:
    """Raw values of a response: numbers in the order of ``slots`` (point indices each), then texts likewise."""

    def __init__(self, read: Read) -> None:
        self._bits = read.area in BIT_AREAS
        byte_total = byte_count(read)
        self.slots: list[tuple[int, ...]] = []
        self.text_slots: list[tuple[int, ...]] = []
        self._layers: list[tuple[int, struct.Struct]] = []
        self._text_layers: list[tuple[int, struct.Struct]] = []
        if self._bits:
            offsets: dict[int, list[int]] = {}
            for index, point in enumerate(read.points):
                offsets.setdefault(point.config.address - read.address, []).append(index)
            self._offsets = list(offsets)
            self.slots = [tuple(users) for users in offsets.values()]
            return
        users: dict[_Field, list[int]] = {}
        for index, point in enumerate(read.points):
            users.setdefault(_field(point.config, read), []).append(index)
        for texts in (False, True):
            chosen = [field for field in users if field.format.endswith("s") == texts]
            for view, form, taken in _layers(chosen, byte_total):
                (self._text_layers if texts else self._layers).append((view, form))
                (self.text_slots if texts else self.slots).extend(tuple(users[field]) for field in taken)

    def numbers(self, payload: bytes) -> Sequence[float]:
        if self._bits:
            word = int.from_bytes(payload, "little")
            return [(word >> offset) & 1 for offset in self._offsets]
        if len(self._layers) == 1:
            view, form = self._layers[0]
            return form.unpack(_look(payload, view))
        values: list[float] = []
        for view, form in self._layers:
            values.extend(form.unpack(_look(payload, view)))
        return values

    def texts(self, payload: bytes) -> list[str]:
        values: list[bytes] = []
        for view, form in self._text_layers:
            values.extend(form.unpack(_look(payload, view)))
        # Devices pad with NUL or blanks; what is not ASCII is shown, not hidden.
        return [value.split(b"\0", 1)[0].decode("utf-8", "replace").rstrip() for value in values]


def _look(payload: bytes, view: int) -> bytes:
    if view == STRAIGHT:
        return payload
    words = array("H", payload)
    if view == REVERSED_WORDS:
        words.reverse()
    else:
        words.byteswap()
    return words.tobytes()


class Translation:
    """One read's responses into the tag table. Keeps what was told last, as raw values."""

    def __init__(self, read: Read, table: TagTable) -> None:
        self.read = read
        self._table = table
        self._unpacker = Unpacker(read)
        self.tags = tuple(point.tag for point in read.points)
        self._bands: list[float] = []
        # One number tag per slot is the common case and told in bulk; None sends the slot through ``offer``.
        self._plain: list[tuple[int, float, float] | None] = []
        for users in self._unpacker.slots:
            point = read.points[users[0]]
            config = point.config
            if len(users) == 1 and config.bit is None:
                self._plain.append((point.tag, config.scale, config.offset))
                self._bands.append(table.specs[point.tag].deadband / abs(config.scale))
            else:
                self._plain.append(None)
                self._bands.append(0.0)
        self._silence_ns = min((table.specs[tag].max_silence_ns for tag in self.tags), default=0)
        self.forget()

    def forget(self) -> None:
        """The tags were told bad meanwhile: the next response is told whole."""
        self._last: list[float] = [NAN] * len(self._unpacker.slots)
        self._payload = b""
        self._due_ns = 0

    def take(self, payload: bytes, ts_ns: int) -> None:
        """A good response of ``byte_count(read)`` bytes, received at ``ts_ns``."""
        if ts_ns >= self._due_ns:
            self._wake(ts_ns)
        elif payload == self._payload:
            return
        self._payload = payload
        values, last = self._unpacker.numbers(payload), self._last
        changed = [
            slot
            for slot, (new, old, band) in enumerate(zip(values, last, self._bands, strict=True))
            if new != old and not -band <= new - old <= band
        ]
        if changed:
            tags: list[int] = []
            scaled: list[float] = []
            for slot in changed:
                raw = last[slot] = values[slot]
                plain = self._plain[slot]
                if plain is None:
                    self._offer(slot, raw, ts_ns)
                    continue
                tag, scale, offset = plain
                value = raw * scale + offset
                if value == value:
                    tags.append(tag)
                    scaled.append(value)
                else:
                    self._table.offer(tag, ts_ns, NAN, Quality.GOOD)
            if tags:
                self._table.tell_many(tags, ts_ns, scaled)
        if self._unpacker.text_slots:
            for users, text in zip(self._unpacker.text_slots, self._unpacker.texts(payload), strict=True):
                for user in users:
                    self._table.offer(self.read.points[user].tag, ts_ns, NAN, Quality.GOOD, text)

    def _offer(self, slot: int, raw: float, ts_ns: int) -> None:
        for user in self._unpacker.slots[slot]:
            point = self.read.points[user]
            bit = point.config.bit
            if bit is not None:
                value: float = (int(raw) >> bit) & 1
            else:
                value = raw * point.config.scale + point.config.offset
            self._table.offer(point.tag, ts_ns, value, Quality.GOOD)

    def _wake(self, ts_ns: int) -> None:
        """Tags that were silent for too long look changed, so that they are told now; when to look again."""
        readings, specs = self._table.readings, self._table.specs
        next_due = ts_ns + self._silence_ns
        for slot, users in enumerate(self._unpacker.slots):
            for user in users:
                tag = self.read.points[user].tag
                due = readings[tag].ts_ns + specs[tag].max_silence_ns
                if due > ts_ns:
                    next_due = min(next_due, due)
                else:
                    self._last[slot] = NAN
        if self._unpacker.text_slots:
            next_due = ts_ns  # texts are compared by the table, at every response
        self._due_ns = next_due
