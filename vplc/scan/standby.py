"""Planned switch-over between two hosts that stand by for each other. The take-over itself is the hosts' business."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from vplc.scan import journal, status
from vplc.scan.errors import NotRunning, Problem, Refused


def switch(folder: Path, who: str, lead: bool = False, timeout_s: float = 5.0) -> status.Status:
    """Lets the host in `folder`, which leads, hand over to its standby between two scans; with `lead`, makes a host
    lead, or a leader drive alone, on the operator's word that the other one does not run (two machines without a
    witness). Returns the new status.

    Raises Refused when there is nobody to take over, or somebody leads already; NotRunning without an answer."""
    found = status.read(folder)
    if not found.alive or found.phase != "running":
        raise NotRunning(f"{folder}: the scan host does not run")
    pair = found.pair
    if pair is None:
        raise Refused([Problem(str(folder), "this host has no standby", 'see "standby" in its configuration')])
    if lead and pair.ready:
        raise Refused([Problem(str(folder), "the two hosts hear each other", "switch without --lead")])
    if not lead and pair.duty == "following":
        raise Refused([Problem(str(folder), f"this host does not lead: {pair.reason}", "ask the one that leads")])
    if not lead and not pair.ready:
        raise Refused([Problem(str(folder), "no standby is ready to take over", "look at the status of the standby")])
    os.kill(found.pid, signal.SIGUSR2)
    wanted = "leading" if lead else "following"
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        now = status.read(folder)
        if not now.alive:
            raise NotRunning(f"{folder}: the scan host ended meanwhile")
        if now.pair is not None and now.pair.duty == wanted:
            journal.note(folder, who, "lead" if lead else "switch", {"epoch": now.pair.epoch})
            return now
        time.sleep(0.002)
    raise NotRunning(f"{folder}: the host did not switch; its status says why")
