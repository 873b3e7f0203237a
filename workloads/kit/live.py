"""Live values to the site's MQTT broker: one topic per tag, one small JSON document per change.

Run by ``service``. This is the path for eyes, not for the record: QoS 0, newest value wins, and nothing here can slow
or stop store-and-forward. Documents are retained, so that a screen opened now shows the last value, its quality and
its age at once; after each (re)connection all of them are sent again, because the broker keeps nothing on disk.

The state of the publisher itself is retained under ``<enterprise>/<site>/_workloads/<instance>``; the broker sets it
to offline (last will) when the workload vanishes, since retained values cannot say that nobody refreshes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time_ns
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests.errors import InternalError, SluiceError
from manifests.messages import Tag
from workloads.kit import login, mqtt
from workloads.kit.backoff import Backoff, BackoffConfig
from workloads.kit.context import SecretName
from workloads.kit.samples import Reading, TagTable, live_value, quality_word

log = logging.getLogger("kit.live")

KEEP_ALIVE_S = 20
CONNECT_TIMEOUT_S = 5.0
DRAIN_TIMEOUT_S = 10.0
MAX_DOCUMENTS, MAX_DOCUMENT_BYTES = 1000, 64 * 1024


class LiveConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The broker, and how often one topic may change."""

    host: Annotated[str, Meta(min_length=1, max_length=253)] = "broker"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    username: str = ""
    password: str = ""  # readable by whoever reads the configuration: better a secret
    password_secret: SecretName = ""
    min_interval_ms: Annotated[int, Meta(ge=10, le=60_000)] = 250
    backoff: BackoffConfig = BackoffConfig()


class _Document(msgspec.Struct):
    value: float | int | bool | str | None
    quality: str
    code: int
    ts: str
    unit: str


_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def timestamp(ns: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


def document(tag: Tag, reading: Reading) -> bytes:
    """``{"value", "quality", "code", "ts", "unit"}``: quality as a word, code the OPC DA quality byte."""
    return _encode(
        _Document(
            live_value(tag, reading), quality_word(reading.quality), reading.quality, timestamp(reading.ts_ns), tag.unit
        )
    )


class Live:
    """``touched(tag)`` marks a tag; its newest reading goes out within ``min_interval_ms`` while the broker takes it.

    ``superseded`` counts readings that a newer one replaced before they were sent.
    """

    def __init__(
        self,
        config: LiveConfig,
        address: str,
        *,
        client_id: str,
        state_topic: str,
        random: Callable[[], float],
        secret: Callable[[str], str] | None = None,
    ) -> None:
        self._config = config
        self._address = address
        self._client_id = client_id
        self._secret = secret
        self._state_topic = state_topic
        self._backoff = Backoff(config.backoff, random)
        self._pending: dict[int, None] = {}
        self._documents: dict[bytes, bytes] = {}  # topic as a field -> newest document
        self._unsent: dict[bytes, None] = {}
        self._topics: list[bytes] = []
        self._work = asyncio.Event()
        self.table: TagTable | None = None
        self.superseded = 0
        self.sent = 0
        self.connected = False

    def touched(self, tag: int) -> None:
        if tag in self._pending:
            self.superseded += 1
            return
        self._pending[tag] = None
        self._work.set()

    def tell(self, topic: str, document: bytes) -> None:
        """A whole document under a topic of its own, retained like a tag's; a newer one replaces it."""
        key = mqtt.field(topic.encode())
        if len(document) > MAX_DOCUMENT_BYTES or (key not in self._documents and len(self._documents) >= MAX_DOCUMENTS):
            raise InternalError(f"{topic}: documents are bounded by {MAX_DOCUMENT_BYTES} bytes and {MAX_DOCUMENTS}")
        self._documents[key] = document
        if key in self._unsent:
            self.superseded += 1
        self._unsent[key] = None
        self._work.set()

    # ------------------------------------------------------------ the connection

    async def run(self) -> None:
        """Until cancelled. Says goodbye when it can."""
        while True:
            try:
                await self._tell()
            except (OSError, EOFError, TimeoutError, SluiceError) as error:
                level = logging.WARNING if self._backoff.attempts == 0 else logging.DEBUG
                log.log(level, "broker not reachable", extra={"error": str(error) or type(error).__name__})
            finally:
                self.connected = False
            await asyncio.sleep(self._backoff.next_delay_s())

    def _state(self, word: str) -> bytes:
        return _encode({"state": word, "ts": timestamp(time_ns())})

    async def _tell(self) -> None:
        reader, writer = await mqtt.connect(
            self._address,
            self._config.port,
            client_id=self._client_id,
            keep_alive_s=KEEP_ALIVE_S,
            will=mqtt.Will(self._state_topic, self._state("offline")),
            user=self._config.username,
            password=login.password(self._config, self._secret),
            timeout_s=CONNECT_TIMEOUT_S,
        )
        listening = asyncio.create_task(self._listen(reader))
        try:
            self._backoff.reset()
            self.connected = True
            log.info("broker connected", extra={"broker": f"{self._config.host}:{self._config.port}"})
            self._write_state(writer, "online")
            if self.table is not None:
                told = (tag for tag, reading in enumerate(self.table.readings) if reading.ts_ns)
                self._pending.update(dict.fromkeys(told))
            self._unsent.update(dict.fromkeys(self._documents))
            speaking = asyncio.create_task(self._speak(writer))
            try:
                done, _ = await asyncio.wait({listening, speaking}, return_when=asyncio.FIRST_COMPLETED)
                for job in done:
                    job.result()
            finally:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)
        except asyncio.CancelledError:
            # An orderly end is not a death: say so ourselves, or the broker would publish the will.
            self._send_pending(writer)
            self._write_state(writer, "offline")
            writer.write(mqtt.DISCONNECT)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.drain()
            raise
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            writer.close()

    def _write_state(self, writer: asyncio.StreamWriter, word: str) -> None:
        topic = mqtt.field(self._state_topic.encode())
        writer.write(mqtt.publish_packet(topic, self._state(word), retain=True))

    def _topic(self, table: TagTable, tag: int) -> bytes:
        while len(self._topics) <= tag:
            self._topics.append(mqtt.field(table.specs[len(self._topics)].tag.topic.encode()))
        return self._topics[tag]

    def _send_pending(self, writer: asyncio.StreamWriter) -> int:
        """At most one socket buffer full: what is not written stays pending, where newer values replace it."""
        if self._unsent:
            key = next(iter(self._unsent))
            del self._unsent[key]
            writer.write(mqtt.publish_packet(key, self._documents[key], retain=True))
            self.sent += 1
            return 1
        table = self.table
        if table is None or not self._pending:
            return 0
        pending, self._pending = self._pending, {}
        packets = []
        size = 0
        for tag in list(pending):
            if size > 48 * 1024:
                break
            del pending[tag]
            packet = mqtt.publish_packet(
                self._topic(table, tag), document(table.specs[tag].tag, table.readings[tag]), retain=True
            )
            packets.append(packet)
            size += len(packet)
        self._pending = pending
        writer.write(b"".join(packets))
        self.sent += len(packets)
        return len(packets)

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        pinged = monotonic()
        while True:
            self._work.clear()
            while self._send_pending(writer):
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets its result.
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await writer.drain()
            if monotonic() - pinged >= KEEP_ALIVE_S / 2:
                pinged = monotonic()
                writer.write(mqtt.PING)
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await writer.drain()
            await asyncio.sleep(self._config.min_interval_ms / 1000)
            if not self._pending and not self._unsent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S / 4):
                        await self._work.wait()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """The broker's answers to our pings: silence means that it is gone, whatever TCP believes."""
        while True:
            async with asyncio.timeout(2 * KEEP_ALIVE_S):
                await mqtt.read_packet(reader)
