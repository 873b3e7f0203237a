"""Which outputs a driver owes its device: changes, refreshes, and the safe values when the host has died. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vplc.drivers.rows import Writing
from vplc.scan.image import Quality, Value
from vplc.scan.values import Json


class Source(enum.Enum):
    """Where the values come from that the device should have."""

    NOBODY = "the host has not published yet"
    HOST = "from the host"
    SAFE = "from the declared safe values: the host has stopped"
    OTHERS = "another host may drive the device: this one is quiet"


@dataclass(frozen=True, slots=True)
class Due:
    """`values` are to be written now; `known` are all the device should have."""

    source: Source
    values: Mapping[str, Json]
    known: Mapping[str, Json]


class Outputs:
    """Remembers what the device has acknowledged."""

    def __init__(self, writing: Writing, safe: Mapping[str, Json]) -> None:
        self._writing, self._safe = writing, safe
        self._has: dict[str, tuple[Json, int]] = {}  # acknowledged value, and when
        self._source = Source.NOBODY
        self._epoch = 0

    def overdue(self, age_ns: int | None) -> bool:
        """Whether the host has been silent for too long."""
        timeout = self._writing.host_timeout_ns
        return bool(timeout) and age_ns is not None and age_ns > timeout

    def due(self, values: Mapping[str, Value], age_ns: int | None, now_ns: int, paired: bool = False) -> Due:
        """`age_ns` is the time since the host last published; None: never. `paired`: another host stands by. Outputs
        of an epoch that is over are nobody's."""
        epoch = max((v.epoch for v in values.values()), default=0)
        if epoch < self._epoch:
            return Due(Source.OTHERS, {}, {})
        if epoch > self._epoch:
            self._has.clear()  # another host led meanwhile, and its driver may have written to the device
        self._epoch = epoch
        if paired and self.overdue(age_ns) and not self._writing.insist:
            self._source = Source.OTHERS
            return Due(self._source, {}, {})
        if age_ns is None:
            self._source = Source.NOBODY
            return Due(self._source, {}, {})
        if self.overdue(age_ns):
            # Once, and once more after the connection was lost: nobody but this driver knows that the host is dead.
            self._source = Source.SAFE
            owed = {n: v for n, v in self._safe.items() if n not in self._has or self._has[n][0] != v}
            return Due(self._source, owed, self._safe)
        self._source = Source.HOST
        known = {n: v.value for n, v in values.items() if v.quality is not Quality.NEVER}
        refresh = self._writing.refresh_ns
        due: dict[str, Json] = {}
        for name, value in known.items():
            has = self._has.get(name)
            if has is None or has[0] != value or (refresh and now_ns - has[1] >= refresh):
                due[name] = value
        return Due(self._source, due, known)

    def written(self, values: Mapping[str, Json], now_ns: int) -> None:
        """The device has acknowledged these."""
        for name, value in values.items():
            self._has[name] = (value, now_ns)

    def forget(self, names: Iterable[str] | None = None) -> None:
        """The device may have lost these (default: all): its power, its connection."""
        if names is None:
            self._has.clear()
        else:
            for name in names:
                self._has.pop(name, None)
