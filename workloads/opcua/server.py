"""One OPC UA server: connection, subscription, and what becomes of its tags when it falls silent.

Called by ``translator``, one per endpoint. Values arrive in batches, straight from the publish response: asyncua's own
handlers cost one asyncio task per value, and its iterator drops silently beyond a queue of 1000. A keep-alive is asked
for in every publishing interval, so silence is noticed before two intervals have passed; then the tags turn bad and the
connection is made anew, which also brings every value again.

Time stamps are the server's own (source, else server). What is said without a value from the server - bad quality,
repetition of a steady value - is dated in the server's clock too, as its last publish told it: two clocks in one series
would put samples in a wrong order. A value without any time stamp is dated on arrival and told as uncertain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.subscription import Subscription
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from manifests.block import Quality
from manifests.errors import InternalError, MachineError, UnreachableError
from manifests.messages import DeviceStatus, State, TagType
from workloads.kit.backoff import Backoff
from workloads.kit.opcua import secure
from workloads.kit.samples import NAN, TagTable
from workloads.opcua.browse import Variable, batches, describe, resolve, subtree
from workloads.opcua.config import Endpoint, NodeConfig, Place
from workloads.opcua.translate import quality, reading, time_ns

log = logging.getLogger("opcua.server")

STALE_INTERVALS = 1.7
STALE_MIN_S = 0.5  # keep-alives of servers jitter by some 100 ms
REPEAT_S = 1.0
CLOCK_TOLERANCE_NS = 5_000_000_000
APPLICATION_URI = "urn:sluice:translator:opcua"


class Declare(Protocol):
    """Turns variables into tags: the number of each, new or known."""

    def __call__(
        self, endpoint: Endpoint, found: Sequence[tuple[Variable, Place, NodeConfig | float]]
    ) -> list[int]: ...


def _why(error: Exception, url: str) -> str:
    """A time-out has no words of its own."""
    return str(error) or (f"{url}: no answer" if isinstance(error, TimeoutError) else type(error).__name__)


class _Batches(Subscription):
    """A subscription that hands over whole publish results."""

    taker: Callable[[Any], None]

    async def publish_callback(self, publish_result: Any) -> None:
        self.taker(publish_result)


class _NoHandler:
    """Keeps asyncua from making the bounded queue of its iterator; `_Batches` calls no handler."""

    def status_change_notification(self, status: Any) -> None:
        raise AssertionError("handlers are not used")


_NO_HANDLER = _NoHandler()


class ServerReader:
    """``declare`` is given what was found at each connection; ``changed`` is called when the state did."""

    def __init__(
        self,
        config: Endpoint,
        table: TagTable,
        declare: Declare,
        *,
        url: str,
        now_ns: Callable[[], int],
        random: Callable[[], float],
        changed: Callable[[], None],
        secret: Callable[[str], str] | None = None,
    ) -> None:
        self.config = config
        self._secret = secret
        self._table = table
        self._declare = declare
        self._url = url
        self._now_ns = now_ns
        self._changed = changed
        self._backoff = Backoff(config.backoff, random)
        self._tags: tuple[int, ...] = ()
        self._problems: list[str] = []
        self._offset_ns = 0  # our clock minus the server's
        self._heard_s = 0.0
        self._stale_s = STALE_MIN_S
        self._good = False  # heard since connected
        self._repeated_s = 0.0
        self._lost = asyncio.Event()
        self._why = ""
        self._bug: Exception | None = None
        self._state, self._reason, self._detail = State.STARTING, "Connecting", ""
        self._since_ns = now_ns()

    def status(self) -> DeviceStatus:
        parts = [self._detail, *self._problems]
        if abs(self._offset_ns) > CLOCK_TOLERANCE_NS:
            parts.append(f"the server's clock differs by {-self._offset_ns / 1e9:+.1f} s")
        detail = "; ".join(part for part in parts if part)[:1000]
        return DeviceStatus(
            name=self.config.name, state=self._state, reason=self._reason, since_ns=self._since_ns, detail=detail
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._good = False
            try:
                await self._session()
            except ValueError as error:
                self._fail("BadConfig", str(error))
            except MachineError as error:
                self._fail("NoSecret", str(error))
            except (OSError, TimeoutError, UaError, UnreachableError) as error:
                self._fail("Unreachable", _why(error, self.config.url))
                if self._good:
                    self._backoff.reset()
                    continue
            await asyncio.sleep(self._backoff.next_delay_s())

    # ------------------------------------------------------------ one connection

    async def _session(self) -> None:
        config = self.config
        timeout_s = config.timeout_ms / 1000
        client = Client(self._url, timeout=timeout_s, watchdog_intervall=max(2.0, timeout_s))
        client.application_uri = APPLICATION_URI
        client.session_timeout = 60_000
        await secure(client, config.security, config, self._secret)
        self._lost.clear()

        async def lost(error: Exception) -> None:
            self._lose(str(error) or "connection lost")

        client.connection_lost_callback = lost
        async with asyncio.timeout(4 * timeout_s):
            await client.connect()
        try:
            found = await self._find(client)
            self._tags = tuple(self._declare(config, found))
            await self._subscribe(client, [variable for variable, _, _ in found])
            await self._watch()
        finally:
            try:
                # Towards a dead server each step of an orderly end would wait for its time-out.
                async with asyncio.timeout(0.2 if self._lost.is_set() else timeout_s):
                    await client.disconnect()
            except (OSError, TimeoutError, UaError):
                client.disconnect_socket()

    async def _find(self, client: Client) -> list[tuple[Variable, Place, NodeConfig | float]]:
        self._problems = []
        wanted: list[tuple[Variable, Place, NodeConfig | float]] = []
        for node in self.config.nodes:
            place = node.place or self.config.place
            try:
                variable = Variable(node.name, node.node, await resolve(client, node.node))
            except (UaError, ValueError) as error:
                variable = Variable(node.name, node.node, None, problem=str(error) or type(error).__name__)
            wanted.append((variable, place, node))
        for browse in self.config.browse:
            place = browse.place or self.config.place
            wanted.extend((variable, place, browse.deadband_percent) for variable in await subtree(client, browse))
        known = [index for index, (variable, _, _) in enumerate(wanted) if variable.node_id is not None]
        described = await describe(client, [wanted[index][0] for index in known])
        for index, variable in zip(known, described, strict=True):
            wanted[index] = (variable, *wanted[index][1:])
        # What a subtree holds besides tags (arrays, structures) is not a mistake; a configured node is.
        kept = [each for each in wanted if isinstance(each[2], NodeConfig) or not each[0].problem]
        self._problems = [f"{variable.name}: {variable.problem}" for variable, _, _ in kept if variable.problem]
        return kept

    async def _subscribe(self, client: Client, variables: Sequence[Variable]) -> None:
        config = self.config
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = config.publishing_interval_ms
        parameters.RequestedMaxKeepAliveCount = 1
        parameters.RequestedLifetimeCount = max(30, 60_000 // config.publishing_interval_ms)
        parameters.MaxNotificationsPerPublish = 10_000
        parameters.PublishingEnabled = True
        subscription = _Batches(client.uaclient.session, parameters, handler=_NO_HANDLER)
        subscription.taker = self._taken
        self._heard_s = monotonic()
        revised = await subscription.init()
        # A server may stretch what it is asked for; its word counts, or good tags would be called bad.
        silence_ms = revised.RevisedPublishingInterval * max(1, revised.RevisedMaxKeepAliveCount)
        self._stale_s = max(STALE_MIN_S, STALE_INTERVALS * silence_ms / 1000)
        if silence_ms > 1.01 * config.publishing_interval_ms:
            self._problems.append(f"the server only speaks every {silence_ms:g} ms when nothing changes")
        sampling = config.sampling_interval_ms
        items: list[tuple[int, Any]] = []
        bad = any(variable.problem for variable in variables)
        for tag, variable in zip(self._tags, variables, strict=True):
            if variable.problem:
                self._table.fail((tag,), self._server_now_ns(), Quality.BAD_CONFIGURATION)
                continue
            item = ua.MonitoredItemCreateRequest()
            item.ItemToMonitor.NodeId = variable.node_id
            item.ItemToMonitor.AttributeId = AttributeIds.Value
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle = tag
            item.RequestedParameters.SamplingInterval = config.publishing_interval_ms if sampling is None else sampling
            item.RequestedParameters.QueueSize = config.queue_size
            item.RequestedParameters.DiscardOldest = True
            items.append((tag, item))
        for part in batches(items):
            results = await subscription.create_monitored_items([item for _, item in part])
            for (tag, _), result in zip(part, results, strict=True):
                if isinstance(result, ua.StatusCode):
                    bad = True
                    self._problems.append(f"{self._table.specs[tag].tag.source}: {result.name}")
                    self._table.fail((tag,), self._server_now_ns(), quality(result.value))
        self._show(State.RUNNING, "BadTags" if bad else "Ok", "")

    async def _watch(self) -> None:
        """Until the server falls silent or the connection is lost; raises UnreachableError then."""
        while True:
            silent_s = monotonic() - self._heard_s
            if silent_s >= self._stale_s:
                self._lose(f"no keep-alive for {silent_s:.1f} s")
            try:
                async with asyncio.timeout(max(0.0, self._stale_s - silent_s) + 0.01):
                    await self._lost.wait()
            except TimeoutError:
                continue
            if self._bug is not None:
                raise InternalError("a publish response could not be handled") from self._bug
            raise UnreachableError(self._why, where=self.config.url)

    def _lose(self, why: str) -> None:
        if not self._lost.is_set():
            self._why = why
            self._lost.set()

    # ------------------------------------------------------------ values

    def _taken(self, result: Any) -> None:
        try:
            self._take(result)
        except Exception as error:  # noqa: BLE001  # asyncua would only log it: a bug has to end the process
            self._bug = error
            self._lost.set()

    def _take(self, result: Any) -> None:
        """One publish response: data, a keep-alive, or the server's word that the subscription has ended."""
        self._heard_s = monotonic()
        self._good = True
        message = result.NotificationMessage
        now_ns = self._now_ns()
        published_ns = time_ns(message.PublishTime)
        self._offset_ns = now_ns - published_ns if published_ns else 0
        for notification in message.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                self._offer(notification.MonitoredItems, now_ns)
            elif isinstance(notification, ua.StatusChangeNotification):
                self._lose(f"the server ended the subscription: {notification.Status.name}")
        if not result.MoreNotifications and self._heard_s - self._repeated_s >= REPEAT_S:
            self._repeated_s = self._heard_s
            self._table.repeat_silent(self._tags, published_ns or now_ns)

    def _offer(self, items: Sequence[Any], now_ns: int) -> None:
        table = self._table
        for item in items:
            tag, data = int(item.ClientHandle), item.Value
            status = data.StatusCode.value if data.StatusCode is not None else 0
            code = quality(status)
            ts_ns = time_ns(data.SourceTimestamp) or time_ns(data.ServerTimestamp)
            if not ts_ns:
                ts_ns, code = now_ns - self._offset_ns, min(code, Quality.UNCERTAIN)
            last = table.readings[tag]
            if last.ts_ns and last.quality < Quality.UNCERTAIN and ts_ns <= last.ts_ns:
                # Unchanged since before we called it bad: it is good again from now on, not from back then.
                ts_ns = max(now_ns - self._offset_ns, last.ts_ns + 1)
            if code < Quality.UNCERTAIN:
                table.offer(tag, ts_ns, NAN, code)
                continue
            value = reading(data.Value.Value if data.Value is not None else None)
            if value is None:
                table.offer(tag, ts_ns, NAN, Quality.BAD_CONFIGURATION)
            elif value[1] is None and table.specs[tag].tag.type is TagType.STRING:
                table.offer(tag, ts_ns, NAN, code, f"{value[0]:g}")
            else:
                table.offer(tag, ts_ns, value[0], code, value[1])

    # ------------------------------------------------------------ conditions

    def _server_now_ns(self) -> int:
        return self._now_ns() - self._offset_ns

    def _fail(self, reason: str, why: str) -> None:
        # A server that has lost a sensor said so itself; without the server nothing is known any more.
        self._table.fail(self._tags, self._server_now_ns(), Quality.BAD_COMMUNICATION)
        self._show(State.FAILED, reason, why)

    def _show(self, state: State, reason: str, detail: str) -> None:
        self._detail = detail
        if (self._state, self._reason) == (state, reason):
            return
        shown = f"{state.value} ({reason})"
        level = logging.INFO if state is State.RUNNING else logging.WARNING
        log.log(level, "server", extra={"device": self.config.name, "state": shown, "why": detail})
        self._state, self._reason, self._since_ns = state, reason, self._now_ns()
        self._changed()
