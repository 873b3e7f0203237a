"""The heart of the agent: observe, plan one round, execute, report, again and again, even when nothing changes.

Jobs beside it ask the centre for new instructions (long poll), send reports, send what the buffer holds, and renew
the certificate. The rounds need none of them: with the centre gone, or never reached since the power came back, they
run from the last verified instructions. Losing the link, the certificate or the freshness of the instructions never
stops a workload; only newer verified instructions do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import structs

from agent.actions import Action, Change, Configure, Connect, Pull, Remove, Replace, Start, Stop, Wait
from agent.buffer import Buffer
from agent.execute import fetch_missing
from agent.holds import goes_on, words
from agent.kept import overfull
from agent.ledger import LedgerPage
from agent.parts import Memory, Parts, Timing
from agent.placement import ControlNode
from agent.plan import NO_CONTROL, NOT_PLACEABLE, after_failure, after_look, plan
from agent.runtimes.base import Attempts, Observed, ObservedInstance, Phase, Wanted, wanted
from agent.status import judge
from agent.upkeep import Upkeep
from manifests.errors import MachineError, SluiceError, TrustError, UnreachableError
from manifests.messages import (
    InstanceStatus,
    Severity,
    State,
    StatusReport,
    TrustStatus,
)
from manifests.model import DesiredState

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
TRUST_DELAY_S = 10.0  # what was refused once will be refused again; asking goes on in case it was the other side
REPORT_GAP_S = 1.0  # changes within this time share one report
FAULT_DELAY_S = 5.0
LOG_LINES = 4  # of what an instance said last, in the event that tells its end
RENEWAL_CHECK_S = 3600.0
RENEWAL_LOOK_S = 10.0
DENIED_NOTICE_NS = 60 * 1_000_000_000
_REASONS: Mapping[type[Action], str] = {
    Pull: "ImagePull",
    Connect: "Network",
    Start: "StartFailed",
    Replace: "StartFailed",
    Change: "ChangeRefused",
    Stop: "StopFailed",
    Remove: "RemoveFailed",
}

_log = logging.getLogger("agent.loop")


class Loop:
    """One node's agent. ``run`` never returns by itself."""

    def __init__(
        self,
        parts: Parts,
        *,
        node: str,
        version: str,
        timing: Timing,
        control: ControlNode = NO_CONTROL,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._parts = parts
        self._node = node
        self._version = version
        self._timing = timing
        self._control = control
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._jitter = jitter
        self._started_ns = wall_ns()
        self._kick = asyncio.Event()
        self._changed = asyncio.Event()
        self._denied_notices: dict[str, int] = {}
        self._last_refusal = ""
        self._staging = asyncio.Lock()
        self._looking = asyncio.Lock()
        self.memory = Memory()
        self.upkeep = Upkeep(parts, self.memory, self._staging, self._event, self._save_events, wall_ns)

    # ------------------------------------------------------------ start

    async def run(self) -> None:
        """Boot from what is on disk, then everything at once until cancelled."""
        await self.boot()
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "rounds": self._rounds,
            "sync": self._sync,
            "reports": self._reports,
            "uplink": self._parts.uplink.run,
            "upkeep": self.upkeep.run,
            "renewals": self._renewals,
        }
        if self._parts.inquiries is not None:
            work["inquiries"] = self._parts.inquiries.run
        async with asyncio.TaskGroup() as jobs:
            for name, job in work.items():
                jobs.create_task(self._for_ever(name, job), name=name)

    async def _for_ever(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """A bug in one job must not end the others: it is reported, and the job begins again."""
        while True:
            try:
                await job()
            except Exception as error:  # noqa: BLE001 - the top of a job; it becomes an event
                _log.exception("a job failed", extra={"job": name})
                self._event(Severity.ERROR, "agent-fault", name, f"{type(error).__name__}: {error}")
            await asyncio.sleep(FAULT_DELAY_S)

    async def boot(self) -> None:
        """Sockets first: workloads that survived are waiting to hand over what they hold."""
        page = await self._parts.in_thread(self._parts.ledger.read)
        if self._parts.ledger.damaged:
            text = "the ledger is not as this enrolment wrote it; it is not used"
            self._event(Severity.SECURITY, "ledger-damaged", "agent", text)
        if page.desired is not None:
            self._parts.trust.remember(page.desired)
        desired = await self._parts.in_thread(self._parts.trust.last_good, self._now())
        if desired is None and page.desired is not None:
            desired = page.desired
            text = "the verified instructions on disk are damaged; running from the sealed copy in the ledger"
            self.memory.restage = True
            self._event(Severity.SECURITY, "trust-damaged", "agent", text)
        elif desired is not None and page.desired is not None and _older(desired, page.desired):
            text = (
                f"the instructions on disk are {_number(desired)}, but {_number(page.desired)} was in force: "
                "an old copy was put back; running from the ledger"
            )
            desired = page.desired
            self.memory.restage = True
            self._event(Severity.SECURITY, "trust-rolled-back", "agent", text)
        elif desired is not None and desired != page.desired and await self._kept_out_at_boot(page.desired, desired):
            desired = page.desired
            self.memory.restage = True
        elif desired is not None and desired != page.desired:  # a crash between activating and writing it down
            await self._keep(desired)
        self._want(desired)
        for instance in self.memory.wanted or ():
            await self._open_bus(instance.name)
        self._event(Severity.INFO, "agent-started", "agent", f"version {self._version}")

    async def _kept_out_at_boot(self, current: DesiredState | None, found: DesiredState) -> bool:
        """A hold also keeps out what became the newest on disk while nothing ran, or what took a damaged file's place.
        With the ledger gone nobody knows what ran: then availability goes first."""
        await self._look_at_holds(current)
        if self._parts.ledger.damaged or goes_on(current, found):
            return False
        return bool(self._parts.holding.in_the_way(found))

    async def _keep(self, desired: DesiredState) -> None:
        """A full disk must not keep a booting agent from its workloads: the signed copies are there."""
        try:
            await self._parts.in_thread(self._parts.ledger.write, LedgerPage(desired=desired))
        except MachineError as error:
            _log.error("the ledger cannot be written", extra={"error": str(error)})

    def _want(self, desired: DesiredState | None) -> None:
        memory = self.memory
        memory.desired = desired
        if desired is None:
            return
        before = {instance.name: instance for instance in memory.wanted or ()}
        platform = self._parts.runtime.platform
        mine = [placed for placed in desired.instances if placed.instance.node == self._node]
        memory.wanted = tuple(wanted(desired.facts, placed, platform) for placed in mine)
        # Only who offers something is looked up by its name: an instance may be called like the machine it reads.
        self._parts.executor.neighbours = [instance.name for instance in memory.wanted if instance.release.provides]
        for instance in memory.wanted:
            old = before.get(instance.name)
            if old and _digests(old) != _digests(instance):
                known = memory.attempts.get(instance.name, Attempts())
                # What is new gets its own chance: the old one's failures say nothing about it.
                memory.attempts[instance.name] = replace(known, failures=0, reason="", detail="")

    # ------------------------------------------------------------ rounds

    async def _rounds(self) -> None:
        while True:
            self._kick.clear()
            busy = await self.round()
            if not busy:
                try:
                    async with asyncio.timeout(self._timing.poll_s):
                        await self._kick.wait()
                except TimeoutError:
                    pass

    async def round(self) -> bool:
        """Look, plan, act. True when something was done, so that the next look is due at once."""
        memory = self.memory
        await self._look_at_holds(memory.desired)
        await self._let_in()
        try:
            observed = await self._parts.in_thread(self._parts.runtime.observe, memory.artifacts())
            observed = await self._parts.in_thread(self._parts.executor.as_changed, observed)
        except (MachineError, UnreachableError) as error:
            self._engine_is(str(error), Severity.WARNING if error.retryable else Severity.ERROR)
            self._say_waiting(())
            return False
        self._engine_is("")
        now_ns = self._monotonic_ns()
        ended = self._take_in(observed, now_ns)
        await self._tell_ends(ended)
        for name in observed.instances:
            await self._open_bus(name)
        self._declare_streams(observed)
        held = "; ".join(map(words, self._parts.holding.in_the_way(memory.desired)))
        actions = plan(memory.wanted, memory.observed, now_ns, self._control, held)
        waits = [action for action in actions if isinstance(action, Wait)]
        memory.unplaceable = {wait.name: wait.detail for wait in waits if wait.reason == NOT_PLACEABLE}
        self._refresh_statuses()
        self._say_waiting(actions)
        steps = [action for action in actions if not isinstance(action, Wait)]
        for name in self._parts.bus.opened() - observed.instances.keys() - self._names():
            await self._parts.bus.close(name)
        done = await asyncio.gather(*(self._perform(step) for step in steps))
        return any(done)

    def _names(self) -> set[str]:
        return {instance.name for instance in self.memory.wanted or ()}

    def _take_in(self, observed: Observed, now_ns: int) -> list[ObservedInstance]:
        """Remember what was seen; the instances that have ended since the last look."""
        memory = self.memory
        ended = []
        for name, found in observed.instances.items():
            before = memory.observed.instances.get(name)
            self._tell_denied(before.denied if before else 0, found, now_ns)
            memory.attempts[name] = after_look(memory.attempts.get(name, Attempts()), found, now_ns)
            if before is None:
                continue
            if found.drift and not before.drift:
                self._event(Severity.WARNING, "instance-drifted", name, found.drift)
            if before.phase is Phase.RUNNING and found.phase is not Phase.RUNNING and name in self._names():
                ended.append(found)
            elif before.runtime_id != found.runtime_id and found.restarts > before.restarts:
                self._event(Severity.WARNING, "instance-restarted", name, f"restart {found.restarts}")
        names = self._names() | observed.instances.keys()
        memory.attempts = {name: known for name, known in memory.attempts.items() if name in names}
        memory.unconfigured = {name: fault for name, fault in memory.unconfigured.items() if name in names}
        memory.observed = replace(observed, attempts=dict(memory.attempts))
        return ended

    def _tell_denied(self, before: int, found: ObservedInstance, now_ns: int) -> None:
        """Packets that its conduits held back, at most once a minute per instance; the status has the count."""
        told_ns = self._denied_notices.get(found.name, -DENIED_NOTICE_NS)
        if found.denied <= before or now_ns - told_ns < DENIED_NOTICE_NS:
            return
        self._denied_notices[found.name] = now_ns
        last = f"; the last {found.denied_last}" if found.denied_last else ""
        text = f"{found.denied} packets were not let through, since this agent began{last}"
        self._event(Severity.SECURITY, "conduit-denied", found.name, text)

    async def _tell_ends(self, ended: Sequence[ObservedInstance]) -> None:
        for found in ended:
            how = found.detail or (f"exit code {found.exit_code}" if found.exit_code is not None else "ended")
            try:
                last = await self._parts.in_thread(self._parts.runtime.logs, found.name, LOG_LINES)
            except (MachineError, UnreachableError):
                last = []
            self._event(Severity.ERROR, "instance-ended", found.name, "; ".join([how, *last]))

    async def _perform(self, action: Action) -> bool:
        memory = self.memory
        began_ns = self._monotonic_ns()
        try:
            said = await self._parts.executor.perform(action)
        except SluiceError as error:
            if isinstance(action, Configure):  # its life goes on: no failure of it, and tried again each round
                if memory.unconfigured.get(action.name) != str(error):
                    self._event(Severity.ERROR, "step-failed", action.name, f"Configure: {error}")
                memory.unconfigured[action.name] = str(error)
                return False
            reason = "Unreachable" if isinstance(error, UnreachableError) else _REASONS[type(action)]
            known = memory.attempts.get(action.name, Attempts())
            if known.reason != reason or known.detail != str(error):
                self._event(Severity.ERROR, "step-failed", action.name, f"{type(action).__name__}: {error}")
            memory.attempts[action.name] = after_failure(known, reason, str(error), self._monotonic_ns())
            return False
        except Exception as error:  # noqa: BLE001 - a bug met by one instance must not hold up the others' steps
            _log.exception("a step failed", extra={"action": type(action).__name__, "instance": action.name})
            fault = f"{type(error).__name__}: {error}"[:300]
            known = memory.attempts.get(action.name, Attempts())
            if known.detail != fault:
                self._event(Severity.ERROR, "agent-fault", action.name, f"{type(action).__name__}: {fault}")
            memory.attempts[action.name] = after_failure(known, "AgentFault", fault, self._monotonic_ns())
            return False
        match action:
            case Start(instance=instance):
                self._event(Severity.INFO, "instance-started", action.name, f"version {instance.release.version}")
            case Replace(instance=instance):
                self._tell_replaced(instance, (self._monotonic_ns() - began_ns) / 1e6)
            case Change(instance=instance):
                known = memory.attempts.get(action.name, Attempts())
                memory.attempts[action.name] = replace(known, failures=0, reason="", detail="")
                text = f"version {instance.release.version} took over: {said}"
                self._event(Severity.INFO, "program-changed", action.name, text)
            case Configure(instance=instance):
                memory.unconfigured.pop(action.name, None)
                facts = instance.facts
                text = f"parameters of generation {facts.generation} revision {facts.revision}, without a restart"
                self._event(Severity.INFO, "instance-configured", action.name, text)
            case Remove():
                self._event(Severity.INFO, "instance-removed", action.name, "no longer wanted")
            case _:
                _log.info("done", extra={"action": type(action).__name__, "instance": action.name})
        return True

    def _tell_replaced(self, instance: Wanted, stopped_ms: float) -> None:
        """Outputs of class control stand meanwhile: how long is said, beside what the release allows."""
        text, severity = f"by version {instance.release.version}", Severity.INFO
        control = instance.release.control
        if control is not None:
            text += f"; it stood for {stopped_ms:.0f} ms, of {control.max_stop_ms:g} ms at most"
            severity = Severity.WARNING if stopped_ms > control.max_stop_ms else severity
        self._event(severity, "instance-replaced", instance.name, text)

    def _declare_streams(self, observed: Observed) -> None:
        """Of what runs the wanted release: an older one, about to be replaced, is heard to its end."""
        for instance in self.memory.wanted or ():
            found = observed.instances.get(instance.name)
            if found is not None and found.release_digest == instance.release_digest:
                self._parts.bus.declare(instance.name, [stream.name for stream in instance.release.streams])

    async def _open_bus(self, name: str) -> None:
        try:
            await self._parts.bus.open(name, self._parts.executor.run_folder(name))
        except MachineError as error:
            _log.error("no bus for an instance", extra={"instance": name, "error": str(error)})

    def _engine_is(self, fault: str, severity: Severity = Severity.ERROR) -> None:
        before, self.memory.engine_fault = self.memory.engine_fault, fault
        if fault == before:
            return
        if not fault:
            self._event(Severity.INFO, "runtime-back", "agent", self._parts.runtime.description)
        elif not before or severity is not Severity.WARNING:  # weather changes its words all the time
            self._event(severity, "runtime-unreachable", "agent", fault)

    def _say_waiting(self, actions: Sequence[Action]) -> None:
        memory = self.memory
        waiting = [str(action) for action in actions if isinstance(action, Wait)]
        waiting += [f"{name}: ConfigureFailed, {fault}" for name, fault in sorted(memory.unconfigured.items())]
        waiting += self._parts.holding.words()
        waiting += [fault for fault in (memory.adoption_fault, memory.engine_fault, memory.renewal_fault) if fault]
        if tuple(waiting) != memory.waiting:
            memory.waiting = tuple(waiting)
            self._changed.set()

    # ------------------------------------------------------------ new instructions

    async def _sync(self) -> None:
        """Ask, verify, stage, adopt. What cannot be reached is asked again; what is refused stays refused."""
        failures = 0
        while True:
            asked_ns, before = self._monotonic_ns(), (self.memory.desired, self._parts.holding.waiting)
            # After a failure the answer is wanted now: a refusal that the centre has mended must not stand for a poll.
            wait_s = 0.0 if failures else self._timing.sync_wait_s
            try:
                candidate = await self._parts.in_thread(self._parts.trust.refresh, self._now(), wait_s)
                self._parts.uplink.line_is_back()
                await self.adopt(candidate)
                failures = 0
                held = wait_s and self._monotonic_ns() - asked_ns > 1_000_000_000
                # A server that answers a long poll at once with nothing new must not be asked in a circle.
                delay_s = 0.0 if held or candidate not in before else max(1.0, self._timing.poll_s)
            except UnreachableError as error:
                failures += 1
                delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 10))
                _log.info("no new instructions", extra={"reason": str(error)})
            except TrustError as error:
                failures += 1
                delay_s = TRUST_DELAY_S
                self._refused(error)
            except SluiceError as error:
                failures += 1
                delay_s = TRUST_DELAY_S
                _log.error("new instructions could not be kept", extra={"error": str(error)})
                self.memory.adoption_fault = f"new instructions could not be kept: {error}"
            await asyncio.sleep(delay_s * (0.5 + 0.5 * self._jitter()))

    def _refused(self, error: TrustError) -> None:
        said = f"{error.kind}: {error}"
        if said != self._last_refusal:
            self._last_refusal = said
            self._event(Severity.SECURITY, "trust-refused", "agent", said)

    async def adopt(self, candidate: DesiredState) -> None:
        """Fetch every byte first, then make the candidate the state to boot with, then let the rounds follow it.

        What the site holds back is fetched all the same and waits. Raises UnreachableError, TrustError or
        MachineError; the old state is then still in force.
        """
        self._last_refusal = ""
        if candidate == self.memory.desired and not self.memory.restage:
            self.memory.adoption_fault, self._parts.holding.waiting = "", None
            return
        async with self._staging:
            await self._stage(candidate)

    async def _stage(self, candidate: DesiredState) -> None:
        platform = self._parts.runtime.platform
        mine = [placed for placed in candidate.instances if placed.instance.node == self._node]
        candidates = [wanted(candidate.facts, placed, platform) for placed in mine]
        try:
            for instance in candidates:
                if instance.artifact is not None and instance.root not in self.memory.observed.prepared:
                    await self._parts.in_thread(fetch_missing, self._parts.blobs, instance.artifact)
        except SluiceError as error:
            self.memory.adoption_fault = f"{_number(candidate)} is not complete yet: {error}"
            raise
        await self._look_at_holds(self.memory.desired)  # they may have come while it was fetched
        if self._parts.holding.in_the_way(candidate) and not goes_on(self.memory.desired, candidate):
            self.memory.adoption_fault, self._parts.holding.waiting = "", candidate
            self._kick.set()
            return
        await self._put_in_force(candidate)

    async def _let_in(self) -> None:
        """What waited goes in once nothing holds it. If something newer was accepted meanwhile, that one follows."""
        candidate = self._parts.holding.waiting
        if candidate is None or self._parts.holding.in_the_way(candidate):
            return
        if self._staging.locked():  # something newer is being fetched, and rounds never wait for the line
            return
        async with self._staging:
            if candidate != self._parts.holding.waiting:
                return
            try:
                await self._put_in_force(candidate)
            except SluiceError as error:
                _log.info("what waited could not go in yet", extra={"reason": str(error)})

    async def _put_in_force(self, candidate: DesiredState) -> None:
        await self._parts.in_thread(self._parts.trust.activate, candidate)
        if not goes_on(self.memory.desired, candidate):
            self._parts.holding.tell_broken(candidate, self._event)
        await self._keep(candidate)
        self.memory.adoption_fault, self.memory.restage, self._parts.holding.waiting = "", False, None
        self._want(candidate)
        self._event(Severity.INFO, "instructions-adopted", "agent", f"{_number(candidate)} is in force")
        self._kick.set()

    async def _look_at_holds(self, current: DesiredState | None) -> None:
        async with self._looking:
            parts = self._parts
            broken = parts.trust.broken_holds()
            look = partial(parts.holding.look, current, self.memory.statuses, self._node, broken, self._now())
            before = await parts.in_thread(look)
            if parts.holding.tell(before, self._event):
                self._changed.set()
                await self._save_events()  # an act of people: not lost to a power cut a second later

    # ------------------------------------------------------------ telling

    def _event(self, severity: Severity, kind: str, subject: str, text: str) -> None:
        level = logging.INFO if severity is Severity.INFO else logging.WARNING
        _log.log(level, kind, extra={"subject": subject, "text": text})
        self._parts.events.add(self._wall_ns(), severity, kind, subject, text)
        self._changed.set()

    def heard(self) -> None:
        """A workload's words differ from its last: look again soon, and say so."""
        self._refresh_statuses()

    def _refresh_statuses(self) -> None:
        memory = self.memory
        wanted_by_name = {instance.name: instance for instance in memory.wanted or ()}
        now_ns, wall_ns = self._monotonic_ns(), self._wall_ns()
        statuses = {}
        for name in sorted(wanted_by_name.keys() | memory.observed.instances.keys()):
            before = memory.statuses.get(name)
            statuses[name] = judge(
                name,
                before,
                wanted_by_name.get(name),
                memory.observed.instances.get(name),
                self._parts.bus.voice(name),
                memory.attempts.get(name, Attempts()),
                instructed=memory.wanted is not None,
                unplaceable=memory.unplaceable.get(name, ""),
                kept_bytes=memory.kept.get(name, 0),
                overfull=self._overfull(name),
                now_ns=now_ns,
                wall_ns=wall_ns,
            )
            self._tell_change(before, statuses[name])
        if statuses.keys() != memory.statuses.keys():
            self._changed.set()
        memory.statuses = statuses

    def _overfull(self, name: str) -> str:
        kept = self._parts.kept
        return "" if kept is None else overfull(self.memory.kept.get(name, 0), kept.cap_bytes)

    def _tell_change(self, before: InstanceStatus | None, after: InstanceStatus) -> None:
        if before is None or (before.state, before.reason, before.runtime_id) != (
            after.state,
            after.reason,
            after.runtime_id,
        ):
            self._changed.set()
            _log.info(
                "instance state",
                extra={
                    "instance": after.name,
                    "state": f"{after.state.value} ({after.reason})",
                    "detail": after.detail,
                },
            )
        old = {device.name: device for device in before.devices} if before else {}
        for device in after.devices:
            known = old.get(device.name)
            if known is not None and known.state is device.state:
                continue
            if device.state is State.FAILED:
                text = f"{device.reason}: {device.detail}" if device.detail else device.reason
                self._event(Severity.WARNING, "device-lost", f"{after.name}/{device.name}", text)
            elif known is not None and known.state is State.FAILED:
                self._event(Severity.INFO, "device-back", f"{after.name}/{device.name}", device.reason)

    async def report(self) -> StatusReport:
        """The report as of now; its events are on disk."""
        self._refresh_statuses()
        memory, parts = self.memory, self._parts
        try:
            memory.buffer = await parts.committer.call(Buffer.status)
        except sqlite3.Error as error:
            _log.error("the buffer cannot say how it is", extra={"error": str(error)})
        await self._save_events()
        return StatusReport(
            node=self._node,
            agent_version=self._version,
            incarnation=parts.events.incarnation,
            at_ns=self._wall_ns(),
            started_ns=self._started_ns,
            platform=parts.runtime.platform,
            runtime=parts.runtime.description,
            trust=self._trust_status(),
            instances=tuple(memory.statuses.values()),
            buffer=memory.buffer,
            waiting=memory.waiting,
            events=parts.events.unseen(),
            certificate_not_after_ns=parts.centre.certificate_not_after_ns(),
            sealing_key=parts.sealing_key,
            holds=parts.holding.now,
        )

    def _trust_status(self) -> TrustStatus:
        """Adopted is what is in force here, also when a newer one lies activated on disk and a hold keeps it out."""
        status, desired = self._parts.trust.status(), self.memory.desired
        if desired is None:
            return status
        return structs.replace(
            status, adopted_generation=desired.facts.generation, adopted_revision=desired.facts.revision
        )

    async def _save_events(self) -> None:
        if self._parts.events.dirty:
            try:
                await self._parts.in_thread(self._parts.events.save)
            except MachineError as error:
                _log.error("events cannot be kept", extra={"error": str(error)})

    async def _reports(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            report = await self.report()
            wait_s = self._timing.report_s
            try:
                reply = await self._parts.in_thread(self._parts.centre.report, report)
                failures = 0
                self._parts.events.seen(reply.events_seen)
                self._parts.uplink.line_is_back()
                wait_s = min(max(reply.report_s, 1.0), wait_s)
            except SluiceError as error:
                failures += 1
                _log.info("not reported", extra={"reason": str(error)})
                await asyncio.sleep(
                    min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 10)) * (0.5 + 0.5 * self._jitter())
                )
                continue
            await asyncio.sleep(REPORT_GAP_S)
            try:
                async with asyncio.timeout(max(0.0, wait_s - REPORT_GAP_S)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def document(self) -> dict[str, Any]:
        """For the local status socket."""
        memory, parts = self.memory, self._parts
        link = parts.uplink.link
        return {
            "node": self._node,
            "agentVersion": self._version,
            "runtime": parts.runtime.description,
            "generation": memory.desired.facts.generation if memory.desired else None,
            "revision": memory.desired.facts.revision if memory.desired else None,
            "trust": self._trust_status(),
            "instances": list(memory.statuses.values()),
            "buffer": memory.buffer,
            "link": {
                "up": link.up,
                "sinceNs": link.since_ns,
                "failures": link.failures,
                "reason": link.reason,
                "sentFrames": link.sent_frames,
                "stuck": parts.uplink.stuck,
            },
            "waiting": memory.waiting,
            "holds": parts.holding.now,
            "sealingKey": parts.sealing_key,
            "certificateNotAfterNs": parts.centre.certificate_not_after_ns(),
        }

    # ------------------------------------------------------------ certificate

    async def _renewals(self) -> None:
        """Hourly while the certificate holds; once it has ended, or a wrong clock was set right, at every look."""
        memory, next_ns = self.memory, 0
        while True:
            ended = 0 < self._parts.centre.certificate_not_after_ns() < self._wall_ns()
            if ended or self._monotonic_ns() >= next_ns:
                next_ns = self._monotonic_ns() + int(RENEWAL_CHECK_S * (0.5 + 0.5 * self._jitter()) * 1e9)
                try:
                    if await self._parts.in_thread(self._parts.centre.renew_if_due, self._now()):
                        self._event(Severity.INFO, "certificate-renewed", "agent", "for another 90 days")
                    memory.renewal_fault = ""
                except SluiceError as error:
                    if not ended or str(error) not in memory.renewal_fault:
                        _log.warning("the certificate was not renewed", extra={"reason": str(error)})
                    memory.renewal_fault = f"the certificate has ended and is not renewed: {error}" if ended else ""
            await asyncio.sleep(RENEWAL_LOOK_S * (0.5 + 0.5 * self._jitter()))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_ns() / 1e9, UTC)


def _digests(instance: Wanted) -> tuple[str, str, str]:
    return (instance.release_digest, instance.config_digest, instance.told_digest)


def _number(desired: DesiredState) -> str:
    generation, revision = desired.facts.order
    return f"generation {generation}" + (f" revision {revision}" if revision else "")


def _older(one: DesiredState, other: DesiredState) -> bool:
    return one.facts.site == other.facts.site and one.facts.order < other.facts.order
