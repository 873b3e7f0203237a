"""The frame of a workload process: build it, run it, tell how it is, end it in order.

Called by each workload's ``__main__``. On SIGTERM or SIGINT the source stops, the last block is cut, and what is
unacknowledged gets a few seconds to leave; what then remains is lost with the process and said so in the log. A
configuration that is wrong does not end the process: it stays, Failed (BadConfig), where an operator can read why,
instead of restarting for ever.

Live parameters: when the agent says that the run context was rewritten, and after each reconnection, it is read again;
if live values differ, the handler given to ``on_configure`` gets the new context. It may refuse, which becomes the
state ``Running (ParametersRefused)``; the last accepted values go on.

Online change: the handler given to ``on_change`` lets a newer release's program take over, and says how that ended.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import time_ns
from typing import Annotated, Protocol, TypeVar

import msgspec
from msgspec import Meta

from manifests.errors import DocumentError, Problem, SluiceError
from manifests.messages import (
    Change,
    Changed,
    Configure,
    DeviceStatus,
    Enough,
    Heartbeat,
    Inquire,
    State,
    StreamStatus,
)
from manifests.model import RunContext
from workloads.kit import context as contexts
from workloads.kit import log as logs
from workloads.kit.backoff import Backoff, BackoffConfig
from workloads.kit.batcher import Batcher, BlockConfig
from workloads.kit.config import parse, refuse
from workloads.kit.inquiries import Handler, Inquiries
from workloads.kit.live import Live, LiveConfig
from workloads.kit.memory import give_back
from workloads.kit.outbox import Outbox
from workloads.kit.publisher import Publisher
from workloads.kit.samples import TagTable

log = logging.getLogger("kit.service")

STREAM = "tags"
FLUSH_S = 5.0  # below the 10 s that engines wait between SIGTERM and SIGKILL
# A local socket whose other end is being restarted: knock often.
BUS_BACKOFF = BackoffConfig(min_ms=100, max_ms=2_000, jitter=0.3)
END_S = 1.0
DETAIL_MAX = 2000


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is kept in memory while the agent is away."""

    cap_mb: Annotated[int, Meta(ge=1, le=1024)] = 16


class KitConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The keys every translator's configuration shares. ``live`` null: no broker."""

    live: LiveConfig | None = LiveConfig()
    block: BlockConfig = BlockConfig()
    outbox: OutboxConfig = OutboxConfig()


C = TypeVar("C", bound=KitConfig)
Check = Callable[[C], Sequence[Problem]]
OnConfigure = Callable[[RunContext], Awaitable[None] | None]
OnChange = Callable[[Change], Awaitable[Changed]]


class Source(Protocol):
    """What a workload adds: where its samples come from."""

    async def run(self) -> None:
        """Until cancelled. An exception that leaves it is our bug, ends the process, and the agent restarts it."""

    def devices(self) -> Sequence[DeviceStatus]: ...


class Runtime:
    """What a source is given. ``declare`` once all tags are known (and again when there are more)."""

    def __init__(self, context: RunContext, config: KitConfig, socket_path: Path) -> None:
        self.context = context
        self._config = config
        self._state = (State.STARTING, "Starting", "")
        self._source: Source | None = None
        self._folder = socket_path.parent
        self._on_configure: OnConfigure | None = None
        self._on_change: OnChange | None = None
        self._changing: asyncio.Task[None] | None = None
        self._refusal = ""
        self._reading: asyncio.Task[None] | None = None
        self._read_again = False
        self._measures: Mapping[str, float] = {}
        self._inquiries = Inquiries(lambda answer: self.publisher.answer(answer))
        self._outbox = Outbox(lambda: secrets.token_hex(8), cap_bytes=config.outbox.cap_mb << 20)
        bus_backoff = Backoff(BUS_BACKOFF, random.random)
        self.publisher = Publisher(
            socket_path, self._outbox, bus_backoff, self._heartbeat, streams=(STREAM,), ears=_Ears(self)
        )
        self.live: Live | None = None
        if config.live is not None:
            self.live = Live(
                config.live,
                contexts.address(context, config.live.host),
                client_id=f"sluice-{context.site}-{context.node}-{context.instance}",
                state_topic=contexts.topic(context, "_workloads", context.instance),
                random=random.random,
                secret=lambda name: contexts.read_secret(self.context, name),
            )
        self.batcher = Batcher(config.block, self._publish)
        self.table = TagTable(self.batcher, self.live.touched if self.live is not None else lambda tag: None)
        if self.live is not None:
            self.live.table = self.table
        self._declared = 0

    def now_ns(self) -> int:
        return time_ns()

    def declare(self) -> None:
        """Tell the tags in the table; must precede their first sample."""
        if not self._declared:
            self.publisher.open(STREAM, self.table.tags)
        elif self._declared != len(self.table.specs):
            self.batcher.flush()
            self.publisher.describe(STREAM, self.table.tags)
        self._declared = len(self.table.specs)
        give_back()

    def changed(self) -> None:
        """A device's state has changed: let the agent know now."""
        self.publisher.changed()

    def set_state(self, state: State, reason: str, detail: str = "") -> None:
        self._state = (state, reason, detail[:DETAIL_MAX])
        self.publisher.changed()

    def set_measures(self, measures: Mapping[str, float]) -> None:
        """Numbers about this instance that travel with its heartbeats (``jitter_p999_us``, ``overruns``, ...)."""
        self._measures = dict(measures)

    def on_inquiry(self, kind: str, handler: Handler) -> None:
        """``handler(arguments)`` is awaited for one answer, or is an async generator of several. It only reads."""
        self._inquiries.register(kind, handler)

    # ------------------------------------------------------------ live parameters

    def on_configure(self, handler: OnConfigure) -> None:
        """``handler(context)`` takes over new live values; DocumentError refuses them all."""
        self._on_configure = handler

    def read_context(self) -> None:
        """The agent may have rewritten the context: look, one look at a time."""
        self._read_again = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_context(), name="context")

    async def _read_context(self) -> None:
        while self._read_again:
            self._read_again = False
            try:
                found = await asyncio.to_thread(contexts.load_context, self._folder)
            except SluiceError as error:
                log.error("the run context cannot be read again", extra={"error": str(error)})
                continue
            if found.secret_versions != self.context.secret_versions:  # read anew by whoever connects next
                self.context = msgspec.structs.replace(
                    self.context, secrets=found.secrets, secret_versions=found.secret_versions
                )
                log.info("secrets were replaced", extra={"secrets": sorted(found.secret_versions)})
            if found.config == self.context.config:
                if self._refusal:  # what was refused has been taken back
                    self._refusal = ""
                    self.publisher.changed()
                continue
            await self._take_over(found)

    async def _take_over(self, found: RunContext) -> None:
        try:
            if self._on_configure is None:
                raise SluiceError("this workload takes no live parameters", remedy="restart the instance")
            taken = self._on_configure(found)
            if inspect.isawaitable(taken):
                await taken
        except SluiceError as error:
            self._refusal = f"revision {found.revision}: {error}"
            log.error("new parameters refused", extra={"revision": found.revision, "error": str(error)})
        except Exception as error:
            self._refusal = f"revision {found.revision}: the workload failed: {type(error).__name__}: {error}"
            log.exception("new parameters could not be taken over")
        else:
            self._refusal = ""
            self.context = found
            log.info("new parameters taken over", extra={"revision": found.revision})
        self.publisher.changed()

    # ------------------------------------------------------------ online change

    def on_change(self, handler: OnChange) -> None:
        """``handler(change)`` is awaited once at a time."""
        self._on_change = handler

    def change(self, change: Change) -> None:
        if self._changing is None or self._changing.done():
            self._changing = asyncio.get_running_loop().create_task(self._change(change), name="change")
        else:
            log.warning("asked for a change during another one", extra={"release": change.release})

    async def _change(self, change: Change) -> None:
        try:
            if self._on_change is not None:
                changed = await self._on_change(change)
            else:
                idle = self._state[0] is State.FAILED  # its configuration was refused: nothing runs that could go on
                reason = "this workload takes over no program"
                changed = Changed(release=change.release, taken=False, idle=idle, reason=reason)
        except SluiceError as error:
            changed = Changed(release=change.release, taken=False, reason=str(error))
        except Exception as error:
            log.exception("a program could not take over")
            reason = f"the workload failed: {type(error).__name__}: {error}"
            changed = Changed(release=change.release, taken=False, reason=reason)
        await self.publisher.answer(changed)

    def _publish(self, block: bytes, count: int, first_ns: int, last_ns: int) -> None:
        self.publisher.publish(STREAM, block, count, first_ns, last_ns)

    def _heartbeat(self) -> Heartbeat:
        state, reason, detail = self._state
        devices = tuple(self._source.devices()) if self._source is not None else ()
        if state is State.RUNNING:
            failed = [device.name for device in devices if device.state is not State.RUNNING]
            if failed:
                reason, detail = "Degraded", f"not reachable or misconfigured: {', '.join(failed)}"[:DETAIL_MAX]
            if self._refusal:
                reason, detail = "ParametersRefused", self._refusal[:DETAIL_MAX]
        streams: tuple[StreamStatus, ...] = ()
        if self._declared:
            counts = {"tags": len(self.table.specs), "good_tags": self.table.good_tags}
            streams = (self.publisher.status(STREAM, **counts),)
        return Heartbeat(
            state=state, reason=reason, detail=detail, devices=devices, streams=streams, measures=self._measures
        )

    async def serve(self, build: Callable[[Runtime], Source], stop: asyncio.Event) -> None:
        """Run until ``stop``, then flush. Raises what the source raises."""
        jobs = [asyncio.create_task(self.publisher.run(), name="publisher")]
        if self.live is not None:
            jobs.append(asyncio.create_task(self.live.run(), name="live"))
        stopping = asyncio.create_task(stop.wait(), name="stop")
        source_job: asyncio.Task[None] | None = None
        try:
            try:
                self._source = build(self)
                give_back()
            except DocumentError as error:
                log.error("configuration refused", extra={"problems": [str(p) for p in error.problems]})
                self.set_state(State.FAILED, "BadConfig", str(error))
            else:
                source_job = asyncio.create_task(self._source.run(), name="source")
                jobs.append(asyncio.create_task(self._cut_blocks(), name="blocks"))
                self.set_state(State.RUNNING, "Ok")
            watched = {stopping, *jobs, *([source_job] if source_job else [])}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for job in done - {stopping}:
                job.result()
                raise RuntimeError(f"the {job.get_name()} job ended by itself")
        finally:
            self.set_state(State.STOPPING, "Terminated")
            stopping.cancel()
            self._inquiries.stop()
            for reaction in (self._reading, self._changing):
                if reaction is not None:
                    reaction.cancel()
            if source_job is not None:
                await _end(source_job)
            self.batcher.flush()
            if self.publisher.connected and not await self.publisher.flushed(FLUSH_S):
                log.warning("ended with unacknowledged frames", extra={"frames": self._outbox.unacked_frames})
            await _end(*jobs)

    async def _cut_blocks(self) -> None:
        period_s = self._config.block.period_ms / 1000
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + period_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self.batcher.flush()


class _Ears:
    """What the agent says, to whom it concerns."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def connected(self) -> None:
        self._runtime.read_context()  # told while nobody listened, or by an agent that died in between

    def heard(self, message: Configure | Inquire | Enough | Change) -> None:
        match message:
            case Configure():
                self._runtime.read_context()
            case Inquire():
                self._runtime._inquiries.asked(message)
            case Enough(id=inquiry):
                self._runtime._inquiries.enough(inquiry)
            case Change():
                self._runtime.change(message)

    def disconnected(self) -> None:
        self._runtime._inquiries.stop()


async def _end(*jobs: asyncio.Task[None]) -> None:
    """Cancel, and wait a moment: the libraries' ``wait_for`` may swallow a cancellation (Python before 3.12), and the
    end of the loop then cancels what is left once more, job by job."""
    for job in jobs:
        job.cancel()
    await asyncio.wait(jobs, timeout=END_S)


async def _main(name: str, kind: type[C], check: Check[C], build: Callable[[Runtime, C], Source]) -> None:
    folder = contexts.run_folder()
    context = contexts.load_context(folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("starting", extra={"workload": name, "instance": context.instance, "version": context.version})
    try:
        config = parse(context.config, kind)
        refuse(check(config))
    except DocumentError as error:
        problem = error

        def refused(_: Runtime) -> Source:
            raise problem

        runtime = Runtime(context, KitConfig(live=None), contexts.bus_socket(folder))
        runtime.on_configure(lambda _: stop.set())  # corrected: a new life begins with it
        await runtime.serve(refused, stop)
    else:
        runtime = Runtime(context, config, contexts.bus_socket(folder))
        await runtime.serve(lambda built: build(built, config), stop)
    log.info("ended", extra={"workload": name})


def main(name: str, kind: type[C], check: Check[C], build: Callable[[Runtime, C], Source]) -> None:
    """The whole of a workload's ``__main__``: the configuration as ``kind``, what ``check`` finds wrong between its
    fields, and what ``build`` makes of it."""
    logs.set_up()
    asyncio.run(_main(name, kind, check, build))
