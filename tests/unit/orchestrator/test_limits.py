"""Token buckets per caller."""

from __future__ import annotations

import pytest

from orchestrator.api import limits
from orchestrator.api.limits import Limiter


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    now = 0.0
    limiter = Limiter(rate_per_s=2.0, burst=3.0, clock=lambda: now)
    assert [limiter.wait_s("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limiter.wait_s("b") == 0.0
    now = 0.5
    assert limiter.wait_s("a") == 0.0
    assert limiter.wait_s("a") == 0.5
    now = 100.0
    assert [limiter.wait_s("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_asking_while_refused_does_not_lengthen_the_wait() -> None:
    limiter = Limiter(rate_per_s=1.0, burst=1.0, clock=lambda: 0.0)
    limiter.wait_s("a")
    assert {limiter.wait_s("a") for _ in range(50)} == {1.0}


def test_memory_is_bounded_whatever_names_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 10)
    limiter = Limiter(rate_per_s=1.0, burst=2.0, clock=lambda: 0.0)
    for number in range(1000):
        limiter.wait_s(str(number))
    assert len(limiter._held) <= 10
