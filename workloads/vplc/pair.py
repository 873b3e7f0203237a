"""Hot standby as a site configures it: what the scan host is told, and the folder that two instances share.

On one node the agent gives both instances of a pair one folder in memory (``RunContext.pair``); in it lies a folder
that belongs to the user both run as, and nobody else may enter. Over a network there is no such folder, and each host
has drivers of its own. `vplc.scan` decides who leads; nothing here does.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests.errors import MachineError, Problem
from manifests.model import RunContext
from workloads.kit import context as contexts
from workloads.vplc.config import WHERE, Pair

CHANNEL = "channel"


def channel(pair: Pair | None, context: RunContext) -> Path | None:
    """What both hosts and their drivers share; None over a network, and without a pair."""
    if pair is None or pair.over != "memory" or not context.pair:
        return None
    return Path(context.pair) / CHANNEL


def standby(
    pair: Pair, context: RunContext, resolve: Callable[[str], str] | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """``standby`` of the scan configuration, and what is wrong with the site's. ``resolve`` gives a host's address."""
    out: dict[str, Any] = {"role": pair.role}
    if pair.missed_scans is not None:
        out["missed_scans"] = pair.missed_scans
    links = {"listen": pair.listen, "peer": pair.peer, "witness": pair.witness}
    given = [key for key, value in links.items() if value] + [
        key for key, value in (("partition", pair.partition), ("leaseMs", pair.lease_ms)) if value
    ]
    problems = []
    if pair.over == "memory":
        problems += [Problem(WHERE, f"pair.{key}", "is for a pair over a network") for key in given]
        shared = channel(pair, context)
        if shared is None:
            hint = "use a container engine or processes, or give the standby a node of its own (over: network)"
            problems.append(Problem(WHERE, "pair", "this runtime gives two instances no common memory", hint))
        return out | {"channel": str(shared)}, problems
    for key in ("listen", "peer"):
        if not links[key]:
            problems.append(Problem(WHERE, f"pair.{key}", "is missing: the host:port of one end of the link"))
    if bool(pair.witness) == bool(pair.partition):
        hint = "two hosts that do not hear each other cannot both be right: a witness decides, or the leader stops"
        problems.append(Problem(WHERE, "pair", "needs either witness or partition: stop", hint))
    for key, value in links.items():
        if value:
            try:
                out[key] = _numeric(value, context, resolve or _resolve)
            except OSError as error:
                problems.append(Problem(WHERE, f"pair.{key}", f"{value} has no address: {error}"))
    if pair.partition:
        out["partition"] = pair.partition
    if pair.lease_ms is not None:
        out["lease_ms"] = pair.lease_ms
    return out, problems


def _numeric(link: str, context: RunContext, resolve: Callable[[str], str]) -> str:
    """The host as a number, once and at the start: a name server must not decide about a take-over."""
    host, _, port = link.rpartition(":")
    return f"{resolve(contexts.address(context, host.strip('[]')))}:{port}"


def _resolve(host: str) -> str:
    found = str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    return f"[{found}]" if ":" in found else found


def open_folder(folder: Path) -> None:
    """As root, before becoming another user: an engine that makes the folder after a power cut makes it root's own."""
    with contextlib.suppress(OSError):
        folder.chmod(0o1777)


def join(shared: Path | None, run: Path) -> None:
    """Makes the folder of the pair, and shows its image where the servers look for one. Raises MachineError."""
    if shared is None:
        return
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        (run / "image").unlink(missing_ok=True)
        (run / "image").symlink_to(shared / "image")
    except OSError as error:
        raise MachineError(f"cannot join the pair: {error.strerror}", where=str(shared)) from error
