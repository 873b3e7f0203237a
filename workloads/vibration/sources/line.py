"""The line to whatever holds the records: where it is reached, who we are there, and connecting again and again.

Called by every source that is not a folder. What ended a connection is told with its place; it gives up never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workloads.kit.backoff import Backoff
from workloads.kit.login import Secret
from workloads.vibration.sources import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``address``: host or URL as this instance reaches it; clock, chance and secrets are the workload's."""

    address: str
    now_ns: Callable[[], int]
    random: Callable[[], float]
    secret: Secret | None = None


async def keep_trying(
    session: Callable[[Report], Awaitable[None]],
    report: Report,
    *,
    where: str,
    backoff: Backoff,
    errors: tuple[type[Exception], ...],
) -> None:
    """One session after another until cancelled; each of ``errors`` ends one."""
    while True:
        try:
            await session(report)
        except errors as error:
            report.unreachable(f"{where}: {str(error) or type(error).__name__}")
        await asyncio.sleep(backoff.next_delay_s())
