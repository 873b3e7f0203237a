"""Variables of the program as tags: what type a tag has, and what a watched value means as a sample. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manifests.block import Quality
from manifests.messages import Tag, TagType
from vplc.scan.layout import Variable
from vplc.scan.values import Json
from workloads.kit.deadband import width
from workloads.kit.samples import NAN, TagSpec
from workloads.vplc.config import Place
from workloads.vplc.program import DURATIONS, TagConfig

_NS = 1e-9
_NEVER_NS = 1 << 62
JOURNAL = "journal"
# What the scan host writes into a quality byte (vplc.scan.image.Quality), as OPC DA says it.
QUALITIES = {
    0: Quality.BAD_WAITING,
    1: Quality.GOOD,
    2: Quality.UNCERTAIN,
    3: Quality.BAD_DEVICE_FAILURE,
    4: Quality.BAD_LAST_KNOWN,
}


@dataclass(frozen=True, slots=True)
class Point:
    """A tag, the variable it shows, the variable that says what it is worth, and the program it belongs to."""

    number: int
    path: str
    base: str
    quality: str | None
    program: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    value: float
    quality: int
    text: str | None = None


def tag_type(base: str) -> TagType:
    base = base.upper()
    if base == "BOOL":
        return TagType.BOOL
    if base.startswith(("STRING", "WSTRING")):
        return TagType.STRING
    # An enumeration's base is a type's own name: its number is whole.
    return TagType.FLOAT if base in DURATIONS or base in ("REAL", "LREAL") else TagType.INT


def spec(number: int, tag: TagConfig, variable: Variable, place: Place, prefix: str, silence_ms: int) -> TagSpec:
    """How the tag is told; ``prefix`` is the topic of the site."""
    unit = tag.unit or ("s" if variable.base.upper() in DURATIONS else "")
    return TagSpec(
        Tag(
            id=number,
            topic="/".join((prefix, place.area, place.line, place.asset, tag.name)),
            type=tag_type(variable.base),
            unit=unit,
            description=tag.description,
            source=f"{variable.path} {variable.type}" + (f" AT {variable.address}" if variable.address else ""),
            low=tag.low,
            high=tag.high,
        ),
        deadband=width(tag.deadband, tag.low, tag.high),
        max_silence_ns=silence_ms * 1_000_000,
    )


def journal_spec(number: int, place: Place, prefix: str) -> TagSpec:
    """The tag of the journal: who forced, wrote or switched what by hand, one text per entry, never repeated."""
    topic = "/".join((prefix, place.area, place.line, place.asset, JOURNAL))
    said = "What people changed by hand"
    return TagSpec(Tag(id=number, topic=topic, type=TagType.STRING, description=said), max_silence_ns=_NEVER_NS)


def entry_text(entry: Mapping[str, Json]) -> str:
    """One entry of `vplc.scan.journal` as a sentence."""
    words = [str(entry.get("at", "")), str(entry.get("who", "")), str(entry.get("what", ""))]
    if "path" in entry:
        words.append(str(entry["path"]))
    if entry.get("value") is not None:
        words.append(f"= {entry['value']}")
    if entry.get("before") is not None:
        words.append(f"(was {entry['before']})")
    return " ".join(words)


def sample(point: Point, values: Mapping[str, Json]) -> Sample:
    """What one answer of the host says of a tag."""
    value = values.get(point.path)
    quality = Quality.GOOD
    if point.quality is not None:
        worth = values.get(point.quality)
        quality = QUALITIES.get(worth, Quality.BAD) if isinstance(worth, int) else Quality.BAD
    if isinstance(value, bool):
        return Sample(float(value), quality)
    if isinstance(value, int | float):
        return Sample(value * _NS if point.base.upper() in DURATIONS else float(value), quality)
    if isinstance(value, str) and tag_type(point.base) is TagType.STRING:
        return Sample(NAN, quality, value)
    return Sample(NAN, Quality.BAD_SENSOR_FAILURE)  # NaN and infinity come as words
