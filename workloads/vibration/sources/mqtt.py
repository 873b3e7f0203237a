"""Records out of an MQTT broker: binary, JSON, bare values or a Sparkplug B metric.

Built by ``monitor``, one per machine. Messages are taken as they come and judged one after another; when more come
than can be judged, the oldest that wait are dropped and counted. What is no record is refused with its place.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from contextlib import aclosing
from dataclasses import replace

import msgspec

from manifests.errors import DocumentError, Problem, SluiceError
from workloads.kit import login
from workloads.kit.backoff import Backoff
from workloads.vibration.record import unit_of
from workloads.vibration.sources import Make, Report, sparkplug
from workloads.vibration.sources.arrival import Declared, Heard, Taken, settle
from workloads.vibration.sources.block import read_json, unpack
from workloads.vibration.sources.config import MqttRecords
from workloads.vibration.sources.line import Line, keep_trying
from workloads.vibration.sources.payload import decode_binary
from workloads.vibration.sources.subscription import Message, messages

log = logging.getLogger("vibration.mqtt")

WAITING = 4  # records that may wait to be judged
BIRTHS, DEATHS = ("NBIRTH", "DBIRTH"), ("NDEATH", "DDEATH")


class MqttSource:
    """``client_id`` is what the broker knows us by."""

    def __init__(self, config: MqttRecords, declared: Declared, line: Line, *, client_id: str) -> None:
        self._config = config
        self._declared = declared
        self._line = line
        self._client_id = client_id
        self._now_ns = line.now_ns
        self._backoff = Backoff(config.backoff, line.random)
        self._names = sparkplug.Names()
        self._speed: tuple[float, int] | None = None  # rpm, when
        self._sequence: int | None = None
        self._waiting: deque[tuple[str, Make]] = deque()
        self._work = asyncio.Event()

    async def run(self, report: Report) -> None:
        where = f"{self._config.host}:{self._config.port}"
        errors = (OSError, EOFError, TimeoutError, SluiceError)
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._hand_over(report))
            jobs.create_task(keep_trying(self._session, report, where=where, backoff=self._backoff, errors=errors))

    async def _hand_over(self, report: Report) -> None:
        while True:
            self._work.clear()
            while self._waiting:
                name, make = self._waiting.popleft()
                await report.offer(name, make)
            await self._work.wait()

    async def _session(self, report: Report) -> None:
        config = self._config
        came = messages(
            self._line.address,
            config.port,
            self._topics(),
            client_id=self._client_id,
            user=config.username,
            password=login.password(config, self._line.secret),
            max_bytes=config.max_mb << 20,
        )
        async with aclosing(came):
            async for message in came:
                self._backoff.reset()
                if message.topic:
                    self._took(message, report)
                else:
                    report.reached()

    def _topics(self) -> list[str]:
        topic = self._config.topic
        if self._config.format == "sparkplug":
            space, group, *rest = topic.split("/")
            topics = [f"{space}/{group}/+/{rest[0]}", *([f"{space}/{group}/+/{'/'.join(rest)}"] if rest[1:] else [])]
        else:
            topics = [topic]
        if self._config.speed_topic is not None and self._config.speed_topic not in topics:
            topics.append(self._config.speed_topic)
        return topics

    # ------------------------------------------------------------ one message

    def _took(self, message: Message, report: Report) -> None:
        if message.topic == self._config.speed_topic:
            self._turn(message, report)
        elif self._config.format == "sparkplug":
            self._sparkplug(message, report)
        else:
            arrived_ns = self._now_ns()
            self._push(message.topic, lambda: self._plain(message, arrived_ns, report), report)

    def _push(self, name: str, make: Make, report: Report) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            report.lost(1, "more records came than can be judged: the oldest were dropped")
        self._waiting.append((name, make))
        self._work.set()

    def _turn(self, message: Message, report: Report) -> None:
        """A speed: a number, or a document with ``value``, good unless it says otherwise."""
        try:
            said = msgspec.json.decode(message.payload)
            if isinstance(said, dict):
                said = said.get("value") if said.get("quality", "good") == "good" else None
            if said is None:
                self._speed = None
                return
            rpm = float(said)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, ValueError) as error:
            report.refuse(message.topic, f"no speed: {error}")
            return
        if math.isfinite(rpm):
            self._speed = (rpm, self._now_ns())

    def _rpm(self, arrived_ns: int) -> float | None:
        if self._speed is None or arrived_ns - self._speed[1] > self._config.speed_max_age_s * 1e9:
            return None
        return self._speed[0]

    def _settled(self, heard: Heard, arrived_ns: int, where: str) -> Taken:
        if heard.rpm is None and self._config.speed_topic is not None:
            # A speed tag that has gone silent is no licence to assume the rated speed.
            heard = replace(heard, rpm=self._rpm(arrived_ns))
            return settle(heard, replace(self._declared, rpm=None), arrived_ns=arrived_ns, source=where)
        return settle(heard, self._declared, arrived_ns=arrived_ns, source=where)

    def _plain(self, message: Message, arrived_ns: int, report: Report) -> Taken:
        config = self._config
        if config.format == "binary":
            heard = unpack(message.payload, message.topic)
        elif config.format == "json":
            heard = read_json(message.payload, message.topic)
        else:
            samples = decode_binary(message.payload, config.layout or "int16", where=message.topic)
            heard = Heard(channels=samples[:, None])
        self._count(heard.sequence, report)
        return self._settled(heard, arrived_ns, message.topic)

    def _count(self, sequence: int | None, report: Report) -> None:
        before, self._sequence = self._sequence, sequence
        if before is not None and sequence is not None and 1 < sequence - before < 1 << 31:
            report.lost(sequence - before - 1, "sequence numbers are missing: records were lost on their way")

    # ------------------------------------------------------------ Sparkplug B

    def _sparkplug(self, message: Message, report: Report) -> None:
        kind = message.topic.split("/")[2]
        if kind in DEATHS:
            self._names.died()
            report.unreachable(f"{message.topic}: the device says it is gone")
            return
        if kind not in (*BIRTHS, "NDATA", "DDATA"):
            return
        try:
            payload = sparkplug.decode(message.payload, message.topic)
        except DocumentError as error:
            report.refuse(message.topic, str(error))
            return
        if kind in BIRTHS:
            self._names.born(payload)
            report.reached()
        named = {self._names.name(metric): metric for metric in payload.metrics}
        metric = named.get(self._config.metric or "")
        if metric is None and "" in named and kind not in BIRTHS:
            report.refuse(message.topic, f"alias {named[''].alias} is not known: no birth was seen yet")
        if metric is not None and metric.value is not None:
            arrived_ns = self._now_ns()
            found = metric
            self._push(message.topic, lambda: self._metric(found, named, payload, arrived_ns, message.topic), report)

    def _metric(
        self,
        metric: sparkplug.Metric,
        named: dict[str, sparkplug.Metric],
        payload: sparkplug.Payload,
        arrived_ns: int,
        where: str,
    ) -> Taken:
        config = self._config

        def number(name: str | None) -> float | None:
            beside = named.get(name).value if name is not None and name in named else None  # type: ignore[union-attr]  # just looked
            return float(beside) if isinstance(beside, int | float) else None

        samples = sparkplug.samples(metric, config.layout, where)
        unit = metric.properties.get("engUnit")
        started = metric.timestamp_ms or payload.timestamp_ms
        overload = named.get(config.overload_metric or "")
        try:
            known = unit_of(unit if isinstance(unit, str) else None)
        except DocumentError as error:
            raise DocumentError([Problem(where, "engUnit", one.what, one.hint) for one in error.problems]) from error
        heard = Heard(
            channels=samples[:, None],
            rate_hz=number(config.rate_metric),
            rpm=number(config.speed_metric),
            unit=known,
            start_ns=started * 1_000_000 if started else None,
            overload=bool(overload.value) if overload is not None else False,
        )
        return self._settled(heard, arrived_ns, where)
