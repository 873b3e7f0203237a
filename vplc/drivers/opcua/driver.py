"""The OPC UA driver: a subscription fills the inputs, changed outputs are written in one request per period.

A keep-alive is asked for in every publishing interval: what the server has not called changed since is as fresh as its
last sign of life, and gets that time. Silence makes all inputs bad, and the connection is made anew. Time stamps are
those of arrival: the server's clock is not the scan's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.subscription import Subscription
from asyncua.crypto import security_policies
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from vplc.drivers.opcua.settings import Point, Settings
from vplc.drivers.outputs import Outputs, Source
from vplc.drivers.place import Place, Stop
from vplc.drivers.status import Group, State, Status
from vplc.scan.errors import Problem, Refused
from vplc.scan.image import Quality

STALE_INTERVALS = 2.5
STALE_MIN_S = 0.5  # keep-alives of servers jitter by some 100 ms
REFUSED_AGAIN_S = 1.0
BATCH = 500
APPLICATION_URI = "urn:vplc:driver:opcua"
UNWRITABLE = "cannot be written while the link is lost: the server's own fail-safe decides"


class _Batches(Subscription):
    """Hands over whole publish results: asyncua's handlers cost a job per value, and its queue drops silently."""

    taker: Callable[[Any], None]

    async def publish_callback(self, publish_result: Any) -> None:
        self.taker(publish_result)


class _NoHandler:
    def status_change_notification(self, status: Any) -> None:
        raise AssertionError("handlers are not used")


class _Lost(Exception):  # noqa: N818 - a state of the line
    """The session cannot go on; the message says why."""


class OpcuaDriver:
    def __init__(self, place: Place, stop: Stop, status: Status) -> None:
        self.place, self.stop, self.status = place, stop, status
        self._prepare()

    def _prepare(self) -> None:
        settings = self.place.settings
        assert isinstance(settings, Settings)
        self.settings = settings
        self.anew = False
        self.outputs = Outputs(settings.writing, settings.safe)
        self.writes = bool(settings.outputs) and settings.writing.granted
        self.subscribed = Group("subscription")
        self.written = Group("outputs")
        self.refused: dict[str, str] = {}  # channels that the server does not give or take, and why
        self.retry_s: dict[str, float] = {}
        self.status.groups = [
            *([self.subscribed] if settings.inputs else []),
            *([self.written] if self.writes else []),
        ]
        if not settings.outputs:
            self.status.outputs = "there are none"
        elif not settings.writing.granted:
            self.status.outputs = 'not written: the grant "write" is missing'

    def run(self) -> None:
        """Until a stop is wanted."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.stop.fd, stopped.set)
        first, most = self.settings.backoff_s
        wait_s = 0.0
        while not self.stop.wanted:
            if self.anew:
                self._prepare()
            self.good = False
            try:
                await self._session(stopped)
            except (OSError, TimeoutError, UaError, _Lost) as error:
                if self.good:
                    wait_s = 0.0
                self._lost(str(error) or f"{self.settings.url}: no answer")
            await self._pause(stopped, wait_s)
            wait_s = min(most, max(first, wait_s * 2))

    async def _pause(self, stopped: asyncio.Event, seconds: float) -> None:
        """Between two connections, with an eye on the host."""
        end = time.monotonic() + seconds
        while not stopped.is_set():
            self.status.publish(time.monotonic())
            self._look()
            if time.monotonic() >= end:
                return
            await _until(stopped, min(0.2, end - time.monotonic()))

    def _lost(self, why: str) -> None:
        self.place.image.spoil()
        self.outputs.forget()
        for group in self.status.groups:
            group.good, group.why = False, why
        if self.writes:
            self.status.outputs = UNWRITABLE
        self.status.show(State.FAILED, why)

    # -- one connection ----------------------------------------------------------------------------------

    async def _client(self) -> Client:
        s, folder = self.settings, self.place.path.parent
        client = Client(s.url, timeout=s.timeout_s, watchdog_intervall=max(2.0, s.timeout_s))
        client.application_uri = APPLICATION_URI
        if s.user:
            client.set_user(s.user)
            client.set_password((folder / s.password_file).read_text("utf-8").strip())
        if s.security is not None:
            policy = getattr(security_policies, f"SecurityPolicy{s.security.policy}")
            names = (s.security.certificate, s.security.private_key, s.security.server_certificate)
            paths = [folder / name for name in names]
            missing = [p for p in paths if not p.is_file()]
            if missing:
                raise Refused([Problem(str(p), "there is no such file", "see security") for p in missing])
            mode = getattr(ua.MessageSecurityMode, s.security.mode)
            await client.set_security(policy, paths[0], paths[1], server_certificate=str(paths[2]), mode=mode)
        return client

    async def _session(self, stopped: asyncio.Event) -> None:
        timeout_s = self.settings.timeout_s
        client = await self._client()
        self.failed = ""

        async def lost(error: Exception) -> None:
            self.failed = str(error) or "the connection was lost"

        client.connection_lost_callback = lost
        async with asyncio.timeout(4 * timeout_s):
            await client.connect()
        self.status.count("connections")
        try:
            async with asyncio.timeout(8 * timeout_s):
                await self._begin(client)
            await self._cycles(client, stopped)
        finally:
            try:
                async with asyncio.timeout(0.2 if self.failed else timeout_s):
                    await client.disconnect()
            except (OSError, TimeoutError, UaError):
                client.disconnect_socket()

    async def _begin(self, client: Client) -> None:
        self.refused.clear()
        self.retry_s.clear()
        spaces = await client.get_namespace_array()
        self.nodes = {}
        for p in (*self.settings.inputs, *self.settings.outputs):
            try:
                self.nodes[p.name] = _node(p.node, spaces)
            except ValueError as error:
                self.refused[p.name] = str(error)
        self.types: dict[str, Any] = {}
        for p in self.settings.outputs if self.writes else ():
            if p.name in self.nodes:
                try:
                    self.types[p.name] = await client.get_node(self.nodes[p.name]).read_data_type_as_variant_type()
                except UaError as error:
                    self.refused[p.name] = str(error)
        self.heard_s = time.monotonic()
        self.stale_s = float("inf")
        self.values: dict[str, Any] = {}
        if self.settings.inputs:
            await self._subscribe(client)

    async def _subscribe(self, client: Client) -> None:
        period_ms = self.settings.period_s * 1000
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = period_ms
        parameters.RequestedMaxKeepAliveCount = 1
        parameters.RequestedLifetimeCount = max(30, int(60_000 // period_ms))
        parameters.MaxNotificationsPerPublish = 10_000
        parameters.PublishingEnabled = True
        subscription = _Batches(client.uaclient.session, parameters, handler=_NoHandler())
        subscription.taker = self._taken
        self.points = [p for p in self.settings.inputs if p.name in self.nodes]
        revised = await subscription.init()
        silence_s = revised.RevisedPublishingInterval / 1000 * max(1, revised.RevisedMaxKeepAliveCount)
        self.stale_s = max(STALE_MIN_S, STALE_INTERVALS * silence_s)
        items = []
        for number, p in enumerate(self.points):
            item = ua.MonitoredItemCreateRequest()
            item.ItemToMonitor.NodeId = self.nodes[p.name]
            item.ItemToMonitor.AttributeId = AttributeIds.Value
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle = number
            item.RequestedParameters.SamplingInterval = period_ms
            item.RequestedParameters.QueueSize = 1
            item.RequestedParameters.DiscardOldest = True
            items.append(item)
        for at in range(0, len(items), BATCH):
            for offset, result in enumerate(await subscription.create_monitored_items(items[at : at + BATCH])):
                if isinstance(result, ua.StatusCode):
                    self.refused[self.points[at + offset].name] = result.name

    async def _cycles(self, client: Client, stopped: asyncio.Event) -> None:
        """Writes and watches; raises _Lost."""
        due_s = time.monotonic()
        while not stopped.is_set():
            if self.failed:
                raise _Lost(self.failed)
            self._look()
            silent_s = time.monotonic() - self.heard_s
            if silent_s > self.stale_s:
                raise _Lost(f"no sign of life for {silent_s:.1f} s")
            if self.writes:
                await self._write(client)
            self._judge()
            self.status.count("cycles")
            self.status.publish(time.monotonic())
            now = time.monotonic()
            due_s = max(due_s + self.settings.period_s, now)
            await _until(stopped, due_s - now)
        if self.writes:
            await self._write(client)  # a host that ended orderly has left safe values

    def _judge(self) -> None:
        bad = [f"{name}: {why}" for name, why in self.refused.items()]
        inputs = {p.name for p in self.settings.inputs}
        if self.settings.inputs:
            mine = [b for b, name in zip(bad, self.refused, strict=True) if name in inputs]
            self.subscribed.good = self.good and not mine
            self.subscribed.why = "; ".join(mine[:3]) or ("" if self.good else "no values yet")
        if self.writes:
            mine = [b for b, name in zip(bad, self.refused, strict=True) if name not in inputs]
            self.written.good, self.written.why = not mine, "; ".join(mine[:3])
        if bad:
            self.status.show(State.DEGRADED, "; ".join(bad[:3]))
        elif self.good or not self.settings.inputs:
            self.status.show(State.RUNNING)
        else:
            self.status.show(State.CONNECTING, "no values yet")

    def _look(self) -> None:
        """A program that was started anew may have other types under the same names: the session begins again."""
        if self.place.look():
            self.anew = True
            self.failed = "the program was started anew"

    # -- values ------------------------------------------------------------------------------------------

    def _taken(self, result: Any) -> None:
        """One publish response: changes, or a keep-alive."""
        self.heard_s = time.monotonic()
        self.good = True
        self.status.count("publishes")
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                self._take(notification.MonitoredItems)
            elif isinstance(notification, ua.StatusChangeNotification):
                self.failed = f"the server ended the subscription: {notification.Status.name}"
        self._look()
        if self.values and not self.anew:
            self.place.image.write(self.values, Quality.GOOD, int(self.heard_s * 1e9))

    def _take(self, items: Sequence[Any]) -> None:
        bad: dict[str, object] = {}
        for item in items:
            p = self.points[int(item.ClientHandle)]
            status = item.Value.StatusCode
            try:
                if status is not None and not status.is_good():
                    raise ValueError(status.name)
                self.values[p.name] = p.value_in(item.Value.Value.Value if item.Value.Value is not None else None)
                self.refused.pop(p.name, None)
            except ValueError as error:
                self.values.pop(p.name, None)
                self.refused[p.name] = str(error)
                bad[p.name] = None
        if bad:
            self.place.image.spoil(bad)

    async def _write(self, client: Client) -> None:
        now = time.monotonic()
        due = self.place.due(self.outputs, time.monotonic_ns())
        self.status.outputs = due.source.value
        points: list[Point] = []
        request: list[Any] = []
        for p in self.settings.outputs:
            if p.name not in due.values or p.name not in self.types or now < self.retry_s.get(p.name, 0.0):
                continue
            try:
                variant = _variant(p.value_out(due.values[p.name]), self.types[p.name])
            except ValueError as error:
                self.refused[p.name] = str(error)
                continue
            points.append(p)
            request.append(ua.DataValue(variant))
        if not points:
            return
        nodes = [self.nodes[p.name] for p in points]
        results = await client.uaclient.write_attributes(nodes, request, AttributeIds.Value)
        self.status.trip(time.monotonic() - now)
        self.status.count("requests")
        for p, result in zip(points, results, strict=True):
            if result.is_good():
                self.outputs.written({p.name: due.values[p.name]}, time.monotonic_ns())
                self.refused.pop(p.name, None)
                self.status.count("safe_writes" if due.source is Source.SAFE else "writes")
            else:
                self.refused[p.name] = result.name
                self.retry_s[p.name] = time.monotonic() + REFUSED_AGAIN_S
                self.status.count("exceptions")


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        pass


def _node(text: str, spaces: Sequence[str]) -> Any:
    """A node id; nsu=URI finds its namespace. Raises ValueError."""
    if text.startswith("nsu="):
        uri, _, rest = text[4:].partition(";")
        if uri not in spaces:
            raise ValueError(f"the server has no namespace {uri}")
        text = f"ns={spaces.index(uri)};{rest}"
    try:
        return ua.NodeId.from_string(text)
    except UaError as error:
        raise ValueError(f"{text}: {error}") from error


_INTEGERS = {
    "SByte": (-128, 127), "Byte": (0, 255), "Int16": (-32768, 32767), "UInt16": (0, 65535),
    "Int32": (-(1 << 31), (1 << 31) - 1), "UInt32": (0, (1 << 32) - 1),
    "Int64": (-(1 << 63), (1 << 63) - 1), "UInt64": (0, (1 << 64) - 1),
}  # fmt: skip


def _variant(value: bool | int | float, kind: Any) -> Any:
    """What does not fit stops at the limit of the server's type. Raises ValueError for other types than numbers."""
    if kind is ua.VariantType.Boolean:
        return ua.Variant(bool(value), kind)
    if kind in (ua.VariantType.Float, ua.VariantType.Double):
        return ua.Variant(float(value), kind)
    limits = _INTEGERS.get(kind.name)
    if limits is None:
        raise ValueError(f"the server wants a {kind.name}")
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{value} is no number")
    return ua.Variant(min(max(round(value), limits[0]), limits[1]), kind)
