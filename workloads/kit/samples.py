"""The tags of a stream and what was last told of them: report by exception.

Translators offer readings; a reading is told when it left the deadband, when its quality changed, or when nothing was
told for ``max_silence`` - so that a steady value still draws a line in the historian. What is told goes to the batcher
(never lost) and is marked for the live values (newest wins). No clock of its own and no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from manifests.block import Quality, is_good
from manifests.messages import Tag, TagType

NAN = math.nan
MAX_TEXT = 1024  # characters of a text value that are kept


def quality_word(quality: int) -> str:
    """The upper two bits of the OPC DA quality byte, as people say them."""
    if quality >= Quality.GOOD:
        return "good"
    return "uncertain" if quality >= Quality.UNCERTAIN else "bad"


@dataclass(frozen=True, slots=True)
class TagSpec:
    """A tag with how it is told: deadband in its unit; after ``max_silence_ns`` the next reading is told in any case
    (a translator that polls subtracts its period, so that what it promised is kept)."""

    tag: Tag
    deadband: float = 0.0
    max_silence_ns: int = 60_000_000_000


@dataclass(slots=True)
class Reading:
    """The last thing told of a tag. ``value`` and ``text`` stay at the last usable ones while the quality is bad."""

    value: float = NAN
    text: str | None = None
    quality: int = Quality.BAD_WAITING
    ts_ns: int = 0  # 0: nothing told yet


class Sink(Protocol):
    """Takes samples on their way to the historian: the batcher."""

    def add(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> None: ...

    def extend(self, tags: Sequence[int], ts_ns: int, values: Sequence[float], qualities: Sequence[int]) -> None: ...


class TagTable:
    """Tags by number. ``touched`` is called with the number of each tag that was told something."""

    def __init__(self, sink: Sink, touched: Callable[[int], None]) -> None:
        self._sink = sink
        self._touched = touched
        self.specs: list[TagSpec] = []
        self.readings: list[Reading] = []
        self.good_tags = 0

    def add(self, spec: TagSpec) -> int:
        """The tag's number: ``spec.tag.id`` must be the next free one (numbers are never used twice)."""
        if spec.tag.id != len(self.specs):
            raise ValueError(f"tag {spec.tag.topic!r} has number {spec.tag.id}, expected {len(self.specs)}")
        self.specs.append(spec)
        self.readings.append(Reading())
        return spec.tag.id

    @property
    def tags(self) -> tuple[Tag, ...]:
        return tuple(spec.tag for spec in self.specs)

    def offer(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> bool:
        """A reading; says whether it was told. NaN with good quality is no value: told as a sensor failure."""
        if text is None and value != value and quality >= Quality.UNCERTAIN:
            quality = Quality.BAD_SENSOR_FAILURE
        last = self.readings[tag]
        spec = self.specs[tag]
        if last.ts_ns and quality == last.quality and ts_ns - last.ts_ns < spec.max_silence_ns:
            if quality < Quality.UNCERTAIN:
                return False
            if text is not None:
                if text == last.text:
                    return False
            elif value == last.value or abs(value - last.value) <= spec.deadband:
                return False
        self._tell(tag, ts_ns, value, quality, text)
        return True

    def tell_many(self, tags: Sequence[int], ts_ns: int, values: Sequence[float]) -> None:
        """Good numbers of one instant that the caller has compared itself."""
        good = int(Quality.GOOD)
        for tag, value in zip(tags, values, strict=True):
            last = self.readings[tag]
            if last.quality != good:
                self._count(last.quality, good)
                last.quality = good
            last.value = value
            last.ts_ns = ts_ns
            self._touched(tag)
        self._sink.extend(tags, ts_ns, values, [good] * len(tags))

    def fail(self, tags: Iterable[int], ts_ns: int, quality: int) -> int:
        """These tags have no usable value any more; says how many were told so just now.

        Never dated before what was told last: a device's clock may be ahead of ours.
        """
        told = 0
        for tag in tags:
            last = self.readings[tag]
            if last.ts_ns and last.quality == quality:
                continue
            self._tell(tag, max(ts_ns, last.ts_ns + 1), NAN, quality, None)
            told += 1
        return told

    def repeat_silent(self, tags: Iterable[int], ts_ns: int) -> int:
        """Tell again what is still so, for tags that were silent too long; says how many."""
        told = 0
        for tag in tags:
            last = self.readings[tag]
            if last.ts_ns and ts_ns - last.ts_ns >= self.specs[tag].max_silence_ns:
                bad = last.quality < Quality.UNCERTAIN
                self._tell(tag, ts_ns, NAN if bad else last.value, last.quality, None if bad else last.text)
                told += 1
        return told

    def _tell(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None) -> None:
        last = self.readings[tag]
        if quality < Quality.UNCERTAIN:
            value, text = NAN, None
        else:
            if text is not None:
                text = text[:MAX_TEXT]
            last.value, last.text = value, text
        self._count(last.quality, quality)
        last.quality = quality
        last.ts_ns = ts_ns
        self._sink.add(tag, ts_ns, value, quality, text)
        self._touched(tag)

    def _count(self, before: int, after: int) -> None:
        self.good_tags += is_good(after) - is_good(before)


def live_value(tag: Tag, reading: Reading) -> float | int | bool | str | None:
    """The value as people read it: text, a boolean, a whole number or a number; None when there never was one."""
    if reading.text is not None:
        return reading.text
    value = reading.value
    if value != value or value in (math.inf, -math.inf):
        return None  # JSON has no word for these
    if tag.type is TagType.BOOL:
        return bool(value)
    if tag.type is TagType.INT:
        return int(value)
    return value
