"""Answers what people at the centre ask of this instance, from handlers that the workload registers.

Run by ``service`` beside the source; the agent hands inquiries over through ``publisher``. A handler only reads. It is
cancelled when nobody waits any longer or the line is gone, and few run at once: a curious operator must not cost the
plant its data. Refuses kinds nobody registered, arguments that are no JSON object, answers over 1 MB.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from manifests.errors import SluiceError
from manifests.messages import MAX_ANSWER_BYTES, Answer, Inquire

log = logging.getLogger("kit.inquiries")

MAX_RUNNING = 8
MAX_ERROR = 2000
JSON_MEDIA = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not JSON, such as ``Reply("image/svg+xml", picture)``."""

    media: str
    payload: bytes


Handler = Callable[[Mapping[str, Any]], Awaitable[Any] | AsyncIterator[Any]]
Send = Callable[[Answer], Awaitable[None]]


class Inquiries:
    """``send`` hands an answer to the agent; it waits while earlier ones have not left."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._handlers: dict[str, Handler] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def register(self, kind: str, handler: Handler) -> None:
        self._handlers[kind] = handler

    def asked(self, inquire: Inquire) -> None:
        """Begin to answer. Must be called on the event loop."""
        if inquire.id in self._running:
            return  # told twice
        job = asyncio.get_running_loop().create_task(self._answer(inquire), name=f"inquiry {inquire.kind}")
        self._running[inquire.id] = job
        job.add_done_callback(lambda _: self._running.pop(inquire.id, None))

    def enough(self, inquiry: str) -> None:
        job = self._running.get(inquiry)
        if job is not None:
            job.cancel()

    def stop(self) -> None:
        """Nobody can be answered: the line is gone, or the process ends."""
        for job in list(self._running.values()):
            job.cancel()

    async def _answer(self, inquire: Inquire) -> None:
        try:
            async with asyncio.timeout(inquire.timeout_s):
                await self._ask(inquire)
        except TimeoutError:
            await self._refuse(inquire, f"not answered within {inquire.timeout_s:g} s")
        except SluiceError as error:
            await self._refuse(inquire, str(error))
        except Exception as error:
            log.exception("an inquiry failed", extra={"kind": inquire.kind})
            await self._refuse(inquire, f"the workload failed: {type(error).__name__}: {error}")

    async def _ask(self, inquire: Inquire) -> None:
        handler = self._handlers.get(inquire.kind)
        if handler is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            await self._refuse(inquire, f"unknown kind {inquire.kind!r}; this workload answers: {known}")
            return
        if len(self._running) > MAX_RUNNING:
            await self._refuse(inquire, f"{MAX_RUNNING} inquiries run already; try again when one has ended")
            return
        try:
            arguments = msgspec.json.decode(inquire.body or b"{}", type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            await self._refuse(inquire, f"the arguments are no JSON object: {error}")
            return
        found = handler(arguments)
        if inspect.isasyncgen(found):
            async with aclosing(found):
                async for value in found:
                    await self._send(_answer(inquire.id, value, final=False))
            await self._send(Answer(id=inquire.id, final=True))
        elif inspect.isawaitable(found):
            await self._send(_answer(inquire.id, await found, final=True))
        else:
            raise TypeError(f"the handler of {inquire.kind!r} is neither awaitable nor a generator")

    async def _refuse(self, inquire: Inquire, why: str) -> None:
        await self._send(Answer(id=inquire.id, final=True, error=why[:MAX_ERROR]))


def _answer(inquiry: str, value: Any, *, final: bool) -> Answer:
    reply = value if isinstance(value, Reply) else Reply(JSON_MEDIA, msgspec.json.encode(value))
    if len(reply.payload) > MAX_ANSWER_BYTES:
        what = f"the answer has {len(reply.payload)} bytes; at most {MAX_ANSWER_BYTES} can travel"
        raise SluiceError(what, remedy="ask for less at once")
    return Answer(id=inquiry, final=final, media=reply.media, payload=reply.payload)
