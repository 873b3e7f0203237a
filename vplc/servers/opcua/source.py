"""The values that clients look at, fetched when they look and not before.

A client's Read fetches what is older than the sampling interval; what is monitored is fetched once per interval, in as
few requests to the host as its answers allow. Everything else costs the host nothing. Stamps are the scan's, and the
status says whether a value moves: the host may be gone, its task in fault, or the input behind it stale.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from vplc.scan.errors import NotRunning, Refused
from vplc.scan.image import Quality
from vplc.servers.host import Host, Qualities, ScanClock, look
from vplc.servers.memory import Memory, Reading, Span
from vplc.servers.model import Item, Model
from vplc.servers.opcua.node import attribute
from vplc.servers.opcua.shapes import Shapes
from vplc.servers.opcua.tree import STATUS
from vplc.servers.opcua.values import date_time
from vplc.servers.program import Programs

log = logging.getLogger(__name__)
S = StatusCodes
LOOK_NS = 250_000_000  # how often the host's status is read
_FORGET_NS = 10_000_000_000  # of values nobody asks for
# What the program works with when an input is not good: the last good value, or the one set for this case.
_WORTH = {
    Quality.NEVER: S.UncertainInitialValue,
    Quality.UNCERTAIN: S.Uncertain,
    Quality.BAD: S.UncertainLastUsableValue,
    Quality.STALE: S.UncertainLastUsableValue,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read last, and the status it had when it was read."""

    reading: Reading
    status: int
    value: ua.DataValue


class Source:
    """One per server. `on_model` is called with the shapes of every version that takes over."""

    def __init__(
        self,
        folder: Path,
        sampling_ms: int,
        shapes: Callable[[Model], Shapes],
        on_model: Callable[[Shapes], None],
    ) -> None:
        self._folder, self._sampling_ns = folder, sampling_ms * 1_000_000
        self.memory = Memory(folder)
        self._programs = Programs(folder, self.memory)
        self._qualities = Qualities(folder)
        self._clock = ScanClock()
        self._make_shapes, self._on_model = shapes, on_model
        self._shapes: Shapes | None = None
        self._samples: dict[str, Sample] = {}
        self._looked_ns = 0
        self.host: Host = look(folder)
        self._trouble = ""
        self._status: dict[str, ua.DataValue] = {}

    async def close(self) -> None:
        await self.memory.close()
        self._qualities.close()

    @property
    def reason(self) -> str:
        """Why there are no values, or none that move; empty when all is well."""
        return self.host.reason or self._trouble

    async def refresh(self, paths: Iterable[str], max_age_ns: int | None = None) -> None:
        """Fetches the values again if one is older than that (default: the sampling interval): all of them, so that
        they are of one scan. Never raises: the samples say it."""
        self._look()
        now = time.monotonic_ns()
        limit = now - (self._sampling_ns if max_age_ns is None else max_age_ns)
        wanted = [p for p in paths if not p.startswith("@")]
        if all(p in self._samples and self._samples[p].reading.at_ns >= limit for p in wanted):
            wanted = []
        if not self.host.running:
            return
        if not wanted and self._shapes is not None:
            return

        def choose(model: Model) -> list[Span]:
            shapes = self._take(model)
            items = (model.item(p) for p in wanted)
            return [s for s in (shapes.span(i) for i in items if i is not None) if s is not None]

        try:
            model, readings = await self._programs.read(choose)
        except (NotRunning, Refused) as error:
            if str(error) != self._trouble:
                log.warning("%s", error)
            self._looked_ns = 0
            self._look()
            self._trouble = str(error)
            self._samples.clear()
            return
        if readings:
            self._trouble = ""
        shapes = self._take(model)
        qualities = self._qualities.read() if model.known.fed else {}
        unix = time.time_ns()
        stamps: dict[int, ua.DateTime] = {}
        for path in wanted:
            item = model.item(path)
            span = shapes.span(item) if item is not None else None
            if item is None or span is None:
                continue
            reading = readings[span]
            worth = self._worth(model, item, reading, qualities)
            stamp = stamps.get(reading.time_ns)
            if stamp is None:
                stamp = stamps[reading.time_ns] = date_time(self._clock.utc_ns(reading.time_ns, unix))
            old = self._samples.get(path)
            if old is not None and old.reading.data == reading.data and old.status == worth:
                variant = old.value.Value
            else:
                variant = shapes.variant(item, span, reading.data)
            value = ua.DataValue(variant, ua.StatusCode(ua.UInt32(worth)), stamp, stamp)
            self._samples[path] = Sample(reading, worth, value)
        if len(self._samples) > len(wanted):
            old_ns = now - _FORGET_NS
            self._samples = {p: s for p, s in self._samples.items() if s.reading.at_ns > old_ns}

    def value(self, identifier: str) -> ua.DataValue:
        """The newest sample of a variable, or of the server's own status."""
        if identifier.startswith("@status."):
            return self._own(identifier.removeprefix("@status."))
        now = ua.DateTime.now(UTC)
        if not self.host.running or self._trouble:
            return ua.DataValue(None, ua.StatusCode(ua.UInt32(S.BadNoCommunication)), None, now)
        sample = self._samples.get(identifier)
        if sample is None:
            shapes = self._shapes
            item = shapes.model.item(identifier) if shapes else None
            code = S.BadWaitingForInitialData
            if shapes is not None and item is not None and shapes.span(item) is None:
                code = S.BadEncodingLimitsExceeded
            elif item is None:
                code = S.BadNodeIdUnknown
            return ua.DataValue(None, ua.StatusCode(ua.UInt32(code)), None, now)
        return sample.value

    def reading(self, path: str) -> Reading | None:
        sample = self._samples.get(path)
        return sample.reading if sample is not None else None

    def changed(self, path: str, since: ua.DataValue | None) -> ua.DataValue | None:
        """The value now, None when value and status are still those of `since`."""
        now = self.value(path)
        if since is not None and since.StatusCode == now.StatusCode and since.Value is now.Value:
            return None
        if since is not None and since.StatusCode == now.StatusCode and since.Value == now.Value:
            return None
        return now

    def _own(self, name: str) -> ua.DataValue:
        known: dict[str, object] = {
            "Running": self.host.running and not self._trouble,
            "State": self.host.state,
            "Reason": self.reason,
            "ProgramVersion": self.host.version,
            "SourceDigest": self._shapes.model.source_sha256 if self._shapes else "",
        }
        value = known[name]
        before = self._status.get(name)
        if before is None or before.Value is None or before.Value.Value != value:
            before = self._status[name] = attribute(value, STATUS[name])
            before.SourceTimestamp = before.ServerTimestamp = ua.DateTime.now(UTC)
        return before

    def _take(self, model: Model) -> Shapes:
        if self._shapes is None or self._shapes.model is not model:
            self._shapes = self._make_shapes(model)
            self._samples.clear()
            self._on_model(self._shapes)
        return self._shapes

    def _look(self) -> None:
        now = time.monotonic_ns()
        if now - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now
        before = self.host
        self.host = look(self._folder)
        if before.running != self.host.running or before.identity != self.host.identity:
            self._samples.clear()
            self._trouble = ""
            self._clock = ScanClock()
            log.warning("%s", self.host.reason or f"version {self.host.version} of the program runs")

    def _worth(self, model: Model, item: Item, reading: Reading, qualities: object) -> int:
        program = model.program_of(item)
        if program is not None and self.host.faulted_tasks:
            task = model.program_tasks.get(program) or "Main"
            if task in self.host.faulted_tasks:
                return int(S.UncertainLastUsableValue)
        if reading.torn:
            return int(S.Uncertain)
        if isinstance(qualities, dict) and qualities:
            feeds = model.feeds.get(item.path.upper(), ())
            found = [qualities.get(f, Quality.GOOD) for f in feeds]
            poor = [q for q in found if q in _WORTH]
            if poor:
                return int(_WORTH[max(poor, key=lambda q: (q in (Quality.BAD, Quality.STALE), q == Quality.NEVER))])
        return int(S.Good)
