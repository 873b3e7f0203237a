"""From OPC UA values to samples: status codes to quality, time stamps to ns, variants to numbers or text. Pure.

Called by ``server``. Source of the codes: OPC 10000-4, 7.39 and OPC 10000-6, A.2; of the quality byte: OPC DA 3.00,
6.8; the mapping follows OPC 10000-8, A.3.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from manifests.block import Quality
from manifests.messages import TagType
from workloads.kit.samples import NAN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The upper 16 bits of a status code; the lower ones are flags that do not change the meaning.
_QUALITY = {
    0x0096: Quality.GOOD_LOCAL_OVERRIDE,
    0x4090: Quality.UNCERTAIN_LAST_USABLE,
    0x408F: Quality.UNCERTAIN_LAST_USABLE,  # UncertainNoCommunicationLastUsableValue
    0x4094: Quality.UNCERTAIN_RANGE,
    0x8031: Quality.BAD_COMMUNICATION,
    0x8032: Quality.BAD_WAITING,
    0x8033: Quality.BAD_CONFIGURATION,  # BadNodeIdInvalid
    0x8034: Quality.BAD_CONFIGURATION,  # BadNodeIdUnknown
    0x8035: Quality.BAD_CONFIGURATION,  # BadAttributeIdInvalid
    0x803A: Quality.BAD_CONFIGURATION,  # BadNotReadable
    0x801F: Quality.BAD_CONFIGURATION,  # BadUserAccessDenied
    0x8089: Quality.BAD_CONFIGURATION,
    0x808A: Quality.BAD_NOT_CONNECTED,
    0x808B: Quality.BAD_DEVICE_FAILURE,
    0x808C: Quality.BAD_SENSOR_FAILURE,
    0x808D: Quality.BAD_OUT_OF_SERVICE,
}

# DataType ids of namespace 0 (OPC 10000-6, A.1). Everything else numeric is read as it comes.
BOOLEAN, STRING, DATE_TIME, LOCALIZED_TEXT = 1, 12, 13, 21
_INTEGERS = range(2, 10)
_FLOATS = (10, 11)
# Abstract types that a concrete value still may have.
_ABSTRACT = {24: TagType.FLOAT, 26: TagType.FLOAT, 27: TagType.INT, 28: TagType.INT, 29: TagType.INT}
_STRING_LIKE = (STRING, DATE_TIME, LOCALIZED_TEXT, 14, 17, 20, 295, 290, 294, 12877, 12878, 12879, 12880, 12881)


def quality(status: int) -> int:
    """The quality byte of a status code: severity in the upper two bits decides what the table does not know."""
    known = _QUALITY.get(status >> 16)
    if known is not None:
        return known
    severity = status >> 30
    if severity == 0:
        return Quality.GOOD
    return Quality.UNCERTAIN if severity == 1 else Quality.BAD


def time_ns(stamp: datetime | None) -> int:
    """Nanoseconds since the Unix epoch; 0 for none, or for a clock that was never set."""
    if stamp is None:
        return 0
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    return max(0, (stamp - _EPOCH) // _MICROSECOND * 1000)


def tag_type(data_type: int, *, enumeration: bool) -> TagType | None:
    """The type of a tag from the DataType's number in namespace 0; None for what has no place in a sample."""
    if enumeration or data_type in _INTEGERS:
        return TagType.INT
    if data_type == BOOLEAN:
        return TagType.BOOL
    if data_type in _FLOATS:
        return TagType.FLOAT
    if data_type in _STRING_LIKE:
        return TagType.STRING
    return _ABSTRACT.get(data_type)


def reading(value: Any) -> tuple[float, str | None] | None:
    """A variant's value as (number, text); None for arrays, structures and bytes, which a sample cannot hold."""
    if isinstance(value, bool | int | float):
        return float(value), None
    if isinstance(value, str):
        return NAN, value
    if isinstance(value, datetime):
        return NAN, value.isoformat()
    text = getattr(value, "Text", None)  # LocalizedText
    if isinstance(text, str):
        return NAN, text
    return None
