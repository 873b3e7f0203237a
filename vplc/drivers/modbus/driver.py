"""The Modbus driver: cycle after cycle, changed outputs to the device, inputs from it into the image.

One process, one connection, one request at a time; whatever the device does, only this process waits. Outputs are
written before inputs are read, so that a cycle's inputs already show what its outputs did.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vplc.drivers.modbus import frames
from vplc.drivers.modbus.frames import Malformed, ReadGroup, Write, WriteRun
from vplc.drivers.modbus.line import Line, Lost, Refusal, Silence
from vplc.drivers.modbus.settings import Settings
from vplc.drivers.outputs import Due, Outputs, Source
from vplc.drivers.place import Place, Stop
from vplc.drivers.status import Group, State, Status
from vplc.scan.image import Quality
from vplc.scan.values import Json

REFUSED_AGAIN_S = 1.0  # a refused span of outputs is not asked for in every cycle
UNWRITABLE = "cannot be written while the link is lost: the device's own fail-safe decides"


@dataclass(slots=True)
class _Unit:
    """A unit that is silent is left alone for a while, so that it does not hold up the others behind one gateway."""

    retry_s: float = 0.0
    wait_s: float = 0.0


@dataclass(slots=True)
class _Run:
    run: WriteRun
    group: Group
    retry_s: float = 0.0


@dataclass(slots=True)
class _Read:
    read: ReadGroup
    group: Group
    names: dict[str, object] = field(default_factory=dict)


class ModbusDriver:
    def __init__(self, place: Place, stop: Stop, status: Status) -> None:
        self.place, self.stop, self.status = place, stop, status
        self.line: Line | None = None
        self._retry_s, self._wait_s = 0.0, 0.0
        self._prepare()

    def _prepare(self) -> None:
        settings = self.place.settings
        assert isinstance(settings, Settings)
        self.settings = settings
        self.outputs = Outputs(settings.writing, settings.safe)
        granted = settings.writing.granted
        self.reads = [
            _Read(g, Group(f"read {g}"), dict.fromkeys(p.name for p in g.points)) for g in frames.read_groups(settings)
        ]
        self.runs = [_Run(r, Group(f"write {r}")) for r in frames.write_runs(settings)] if granted else []
        self.units = {p.unit: _Unit() for p in (*settings.inputs, *settings.outputs)}
        self.status.groups = [*(r.group for r in self.reads), *(r.group for r in self.runs)]
        if settings.outputs and not granted:
            self.status.outputs = 'not written: the grant "write" is missing'
        elif not settings.outputs:
            self.status.outputs = "there are none"

    # -- the loop ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until a stop is wanted."""
        period, due_s = self.settings.period_s, time.monotonic()
        while not self.stop.wanted:
            if self.place.look():
                self._prepare()
                self.place.image.spoil()
            if self._connected():
                try:
                    self._cycle()
                except KeyError:  # the host came back with other channels in the middle of the cycle
                    if not self.place.look():
                        raise
                    self._prepare()
                self.status.count("cycles")
            self.status.publish(time.monotonic())
            now = time.monotonic()
            late = int(max(0.0, now - due_s) / period)
            if late:
                self.status.count("cycles_missed", late)
            due_s += (late + 1) * period
            self.stop.wait(due_s - now)
        self._last_words()

    def _last_words(self) -> None:
        """A host that ended orderly has left safe values: they still go out."""
        if self.line is not None:
            try:
                self._write()
            except (Lost, Malformed):
                pass
            self.line.close()

    def _connected(self) -> bool:
        if self.line is not None:
            return True
        now = time.monotonic()
        if now < self._retry_s:
            return False
        try:
            self.line = Line(self.settings.host, self.settings.port, self.settings.timeout_s)
        except Lost as error:
            self._lost(str(error))
            return False
        self.status.count("connections")
        return True

    def _lost(self, why: str) -> None:
        """Everything is bad until the device answers again. After a good connection the first try comes at once."""
        if self.line is not None:
            self.line.close()
            self.line = None
        first, most = self.settings.backoff_s
        self._retry_s = time.monotonic() + self._wait_s
        self._wait_s = min(most, max(first, self._wait_s * 2))
        for unit in self.units.values():
            unit.retry_s = unit.wait_s = 0.0
        for group in self.status.groups:
            group.good, group.why = False, why
        self.outputs.forget()
        self.place.image.spoil()
        if self.runs:
            self.status.outputs = UNWRITABLE
        self.status.show(State.FAILED, why)

    # -- one cycle ---------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        try:
            taken = self._write()
            for each in self.reads:
                if each is not taken:
                    self._read(each)
        except (Lost, Malformed) as error:
            self._lost(str(error))
            return
        if any(g.good for g in self.status.groups):
            self._wait_s = 0.0
        bad = [g for g in self.status.groups if not g.good]
        if not bad:
            self.status.show(State.RUNNING)
        elif len(bad) == len(self.status.groups):
            self.status.show(State.FAILED, bad[0].why)
        else:
            self.status.show(State.DEGRADED, "; ".join(f"{g.what}: {g.why}" for g in bad[:3]))

    def _ask(self, unit: int, pdu: bytes, *groups: Group) -> bytes | None:
        """The answer; None when the unit refuses or is silent. A silent unit is asked again after its own back-off, and
        when no unit answers any more the connection is given up."""
        assert self.line is not None
        state = self.units[unit]
        begin = time.monotonic()
        if begin < state.retry_s:
            return None
        try:
            answer = self.line.ask(unit, pdu)
        except Refusal as error:
            self.status.count("exceptions")
            why = str(error)
            state.wait_s = state.retry_s = 0.0
        except Silence as error:
            self.status.count("timeouts")
            why = str(error)
            first, most = self.settings.backoff_s
            state.wait_s = min(most, max(first, state.wait_s * 2))
            state.retry_s = time.monotonic() + state.wait_s
            if all(u.retry_s > begin for u in self.units.values()):
                raise Lost(why) from error
        else:
            self.status.count("requests")
            self.status.trip(time.monotonic() - begin)
            state.wait_s = state.retry_s = 0.0
            return answer
        for group in groups:
            group.good, group.why = False, why
        return None

    def _read(self, each: _Read) -> None:
        stamp = time.monotonic_ns()  # not when the answer came: the device may have sampled right after the request
        answer = self._ask(each.read.unit, each.read.pdu, each.group)
        self._take(each, answer, stamp)

    def _take(self, each: _Read, answer: bytes | None, stamp: int) -> None:
        image = self.place.image
        if answer is None:
            image.spoil(each.names)
            return
        values, bad = each.read.values(frames.data_of(answer))
        image.write(values, Quality.GOOD, stamp)
        if bad:
            image.spoil(bad)
            self.status.count("unfit", len(bad))
        name, why = next(iter(bad.items()), ("", ""))
        each.group.good, each.group.why = not bad, f"{name}: {why}" if bad else ""

    def _write(self) -> _Read | None:
        """Sends what is due; the read that went along with a write, if there was one."""
        if not self.runs:
            return None
        now_ns = time.monotonic_ns()
        due = self.place.due(self.outputs, now_ns)
        self.status.outputs = due.source.value
        taken: _Read | None = None
        for each in self.runs:
            mine = {p.name: due.values[p.name] for p in each.run.points if p.name in due.values}
            if not mine or time.monotonic() < each.retry_s:
                if not each.group.good and not mine and due.source is Source.NOBODY:
                    each.group.good, each.group.why = True, "nothing to write yet"
                continue
            try:
                requests = frames.writes(each.run, mine, due.known, self.settings.writes)
            except ValueError as error:
                each.group.good, each.group.why = False, str(error)
                self.status.count("unfit")
                continue
            for request in requests:
                partner = self._partner(request) if self.settings.combine and taken is None else None
                if partner is not None:
                    if self._send_combined(each, request, partner, due):
                        taken = partner
                else:
                    self._send(each, request, due)
        return taken

    def _partner(self, request: Write) -> _Read | None:
        return next((r for r in self.reads if frames.combined(r.read, request) is not None), None)

    def _send(self, each: _Run, request: Write, due: Due) -> None:
        answer = self._ask(request.unit, request.pdu, each.group)
        if answer is None:
            each.retry_s = time.monotonic() + REFUSED_AGAIN_S
            return
        frames.confirm(request.pdu, answer)
        self._sent(each, request, due)

    def _send_combined(self, each: _Run, request: Write, partner: _Read, due: Due) -> bool:
        pdu = frames.combined(partner.read, request)
        assert pdu is not None
        stamp = time.monotonic_ns()
        answer = self._ask(request.unit, pdu, each.group, partner.group)
        self._take(partner, answer, stamp)
        if answer is None:
            each.retry_s = time.monotonic() + REFUSED_AGAIN_S
        else:
            self._sent(each, request, due)
        return True

    def _sent(self, each: _Run, request: Write, due: Due) -> None:
        values: dict[str, Json] = {p.name: due.known[p.name] for p in request.points}
        self.outputs.written(values, time.monotonic_ns())
        self.status.count("writes")
        if due.source is Source.SAFE:
            self.status.count("safe_writes")
        each.group.good, each.group.why = True, ""
