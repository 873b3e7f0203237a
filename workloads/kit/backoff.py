"""How long to wait before the next attempt: exponential with jitter.

Called by everything that reconnects. Pure: randomness is an argument, sleeping is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta


class BackoffConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """First and longest wait in ms; ``jitter`` is the share of it that is random, so that a plant's
    gateways do not all knock at the same instant after a power cut."""

    min_ms: Annotated[int, Meta(ge=10, le=600_000)] = 500
    max_ms: Annotated[int, Meta(ge=10, le=3_600_000)] = 30_000
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.3


@dataclass(slots=True)
class Backoff:
    """``next_delay_s`` doubles from ``min`` to ``max``; ``reset`` after success. ``random`` gives [0, 1)."""

    config: BackoffConfig
    random: Callable[[], float]
    attempts: int = 0

    def next_delay_s(self) -> float:
        low, high = self.config.min_ms, max(self.config.min_ms, self.config.max_ms)
        # 2**20 * 10 ms is far above any cap; unbounded attempts would overflow a float.
        base = min(high, low << min(self.attempts, 20))
        self.attempts += 1
        return base * (1 - self.config.jitter * self.random()) / 1000

    def reset(self) -> None:
        self.attempts = 0
