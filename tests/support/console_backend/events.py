"""What happened in the invented fleet."""

from __future__ import annotations

import time

from orchestrator.api import schemas as s
from tests.support.console_backend.scene import rfc


def events(names: list[str]) -> list[s.EventView]:
    if not names:
        return []
    now = time.time()
    base = [
        ("info", "instance-started", "press", "runs version 1.4.2", None),
        (
            "info",
            "rollout-started",
            "rollout 7",
            "generation 13 to 2 sites: half-second publishing for the press",
            "admin",
        ),
        ("warning", "device-unreachable", "pump-skid", "no answer from 10.10.2.14:502; its tags are bad", None),
        ("info", "device-back", "pump-skid", "answers again after 4 min", None),
        (
            "security",
            "trust-refused",
            "director",
            "metadata of another site refused (wrong-site); what ran goes on",
            None,
        ),
        ("error", "image-pull-failed", "press", "blob sha256:5f21… ended early; tries again in 8 s", None),
        ("info", "enrolled", "edge-1", "node enrolled with a token made by admin", "admin"),
    ]
    return [
        s.EventView(
            id=900 - i,
            at=rfc(now - 45 - i * 310),
            site=names[i % min(len(names), 2)],
            node="edge-1",
            severity=sev,
            kind=kind,
            subject=subject,
            text=text,
            actor=actor,
        )
        for i, (sev, kind, subject, text, actor) in enumerate(base * 2)
    ]
