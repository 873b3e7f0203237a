"""Turns what was observed and heard into the two-word states that people and the centre read.

``judge`` is pure. The table says which state follows which; a pair that is not in it is a bug of ours. Also serves
``<state>/agent.sock``: whoever may open it (root and the agent's own user) reads the same report as the centre.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.busserver import Voice
from agent.kept import MEASURE as KEPT_MEASURE
from agent.kept import REASON as KEPT_FULL
from agent.plan import NOT_PLACEABLE, is_crash_loop
from agent.runtimes.base import Attempts, ObservedInstance, Phase, Wanted
from manifests.errors import InternalError, MachineError
from manifests.messages import InstanceStatus, State
from manifests.model import WorkloadClass

SOCKET_NAME = "agent.sock"
DENIED_MEASURE = "conduits_denied"  # packets, since the agent began
_SECOND = 1_000_000_000


class Seen(enum.Enum):
    """What the last look at an instance showed."""

    ABSENT = "absent"  # wanted, not there, nothing wrong yet
    BLOCKED = "blocked"  # something must change first: no artifact for this platform
    TRYING_AGAIN = "trying again"  # a step failed, the next try is due later
    LOOPING = "looping"  # it fails again and again
    SILENT_START = "silent start"  # runs, has not spoken yet, still in its grace
    WELL = "well"
    UNWELL = "unwell"  # by its own words
    MUTE = "mute"  # runs, but has not spoken for too long
    UNWANTED = "unwanted"  # runs, and should not
    GONE = "gone"


_NEXT = {
    Seen.ABSENT: State.PENDING,
    Seen.BLOCKED: State.FAILED,
    Seen.TRYING_AGAIN: State.WAITING,
    Seen.LOOPING: State.FAILED,
    Seen.SILENT_START: State.STARTING,
    Seen.WELL: State.RUNNING,
    Seen.UNWELL: State.RUNNING,
    Seen.MUTE: State.FAILED,
    Seen.UNWANTED: State.STOPPING,
    Seen.GONE: State.REMOVED,
}
# An agent that was away may find an instance anywhere, so every look is possible from every state but the last:
# what was removed is only ever pending again.
TRANSITIONS: dict[tuple[State, Seen], State] = {
    **{(state, seen): after for state in State if state is not State.REMOVED for seen, after in _NEXT.items()},
    (State.REMOVED, Seen.ABSENT): State.PENDING,
    (State.REMOVED, Seen.BLOCKED): State.FAILED,
    (State.REMOVED, Seen.GONE): State.REMOVED,
}


def next_state(state: State, seen: Seen) -> State:
    try:
        return TRANSITIONS[state, seen]
    except KeyError:
        raise InternalError(f"an instance that was {state.value} was seen as {seen.value}") from None


def look(
    wanted: Wanted | None,
    found: ObservedInstance | None,
    voice: Voice,
    attempts: Attempts,
    now_ns: int,
    *,
    instructed: bool = True,
    unplaceable: str = "",
) -> tuple[Seen, State | None, str, str]:
    """What is seen, the state it says of itself (if it speaks), the second word, and details. ``now_ns`` monotonic.

    ``unplaceable``: what this node cannot honour, of an instance that waits for that.
    ``instructed``: some desired state is known; without one, what runs is neither wanted nor unwanted.
    """
    if wanted is None and not instructed and found is not None:
        return (Seen.UNWELL if found.phase is Phase.RUNNING else Seen.TRYING_AGAIN), None, "NoInstructions", ""
    if wanted is None:
        return (Seen.GONE, None, "Removed", "") if found is None else (Seen.UNWANTED, None, "NotWanted", "")
    runs = found is not None and found.phase is Phase.RUNNING
    if is_crash_loop(attempts) and (not runs or attempts.reason == "Exited"):
        reason = "CrashLoop" if attempts.reason == "Exited" else attempts.reason
        return Seen.LOOPING, None, reason, f"{attempts.failures} failures in a row; {attempts.detail}"
    if found is None or not runs:
        if wanted.artifact is None:
            return Seen.BLOCKED, None, "NoArtifact", "the release has no artifact for this platform"
        if unplaceable:
            return Seen.BLOCKED, None, NOT_PLACEABLE, unplaceable
        if attempts.failures:
            return Seen.TRYING_AGAIN, None, attempts.reason, attempts.detail
        if found is not None and found.phase is Phase.STARTING:
            return Seen.SILENT_START, None, found.reason or "Starting", found.detail
        return Seen.ABSENT, None, "Planned", ""
    health = wanted.release.health
    old = (found.release_digest, found.config_digest) != (wanted.release_digest, wanted.config_digest)
    note = f"still runs {found.version}: {attempts.reason} {attempts.detail}".rstrip() if old else found.note
    if old and unplaceable:
        return Seen.TRYING_AGAIN, None, NOT_PLACEABLE, f"still runs {found.version}: {unplaceable}"
    if old and attempts.failures:
        return Seen.TRYING_AGAIN, None, attempts.reason, note
    if not health.heartbeat:
        return Seen.WELL, None, "Ok", note
    if voice.heartbeat is None:
        if now_ns - attempts.life_ns < health.startup_grace_s * _SECOND:
            return Seen.SILENT_START, None, "NoHeartbeatYet", note
        return Seen.MUTE, None, "NoHeartbeat", "it runs, but never spoke on the local bus"
    if now_ns - voice.heard_ns > health.heartbeat_timeout_s * _SECOND:
        silence_s = (now_ns - voice.heard_ns) / _SECOND
        return Seen.MUTE, None, "HeartbeatLost", f"silent for {silence_s:.0f} s"
    said = voice.heartbeat
    if said.state is State.RUNNING:
        seen = Seen.WELL if said.reason == "Ok" else Seen.UNWELL
        return seen, None, said.reason, said.detail or note
    return Seen.UNWELL, said.state, said.reason, said.detail


def judge(
    name: str,
    before: InstanceStatus | None,
    wanted: Wanted | None,
    found: ObservedInstance | None,
    voice: Voice,
    attempts: Attempts,
    *,
    instructed: bool = True,
    unplaceable: str = "",
    kept_bytes: int = 0,
    overfull: str = "",
    now_ns: int,
    wall_ns: int,
) -> InstanceStatus:
    """The status of one instance. ``since_ns`` moves only when one of the two words does.

    ``kept_bytes``: what it keeps on disk; ``overfull`` why that is too much. Class control is never called degraded for
    that: it must not hold up a rollout that mends it.
    """
    seen, own, reason, detail = look(
        wanted, found, voice, attempts, now_ns, instructed=instructed, unplaceable=unplaceable
    )
    of_control = wanted is not None and wanted.release.workload_class is WorkloadClass.CONTROL
    if overfull and seen is Seen.WELL and not of_control:
        seen, reason, detail = Seen.UNWELL, KEPT_FULL, overfull
    state = next_state(before.state if before else State.PENDING, seen)
    if own is not None and own not in (State.REMOVED, State.STOPPING):
        state = own
    same = before is not None and (before.state, before.reason) == (state, reason)
    current = (
        wanted is not None
        and found is not None
        and (found.release_digest, found.config_digest) == (wanted.release_digest, wanted.config_digest)
    )
    said = voice.heartbeat
    measures = dict(said.measures) if said else {}
    if found is not None and found.denied:
        measures[DENIED_MEASURE] = float(found.denied)
    if kept_bytes:
        measures[KEPT_MEASURE] = float(kept_bytes)
    return InstanceStatus(
        name=name,
        state=state,
        reason=reason,
        since_ns=before.since_ns if before is not None and same else wall_ns,
        detail=detail[:500],
        workload=found.workload if found else wanted.release.name if wanted else "",
        version=found.version if found else "",
        release_digest=found.release_digest if found else "",
        # Unchanged by a newer generation means: it runs what that generation wants.
        generation=(wanted.facts.generation if wanted and current else found.generation if found else 0),
        runtime_id=found.runtime_id if found else "",
        started_ns=found.started_ns if found else 0,
        restarts=found.restarts if found else 0,
        devices=said.devices if said else (),
        streams=said.streams if said else (),
        measures=measures,
    )


# ---------------------------------------------------------------- the local status socket


class StatusServer:
    """Writes one JSON document to whoever connects, and closes."""

    def __init__(self, state_folder: Path, document: Callable[[], Mapping[str, Any]]) -> None:
        self._folder = state_folder
        self._document = document
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        path = self._folder / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
        except OSError as error:
            listener.close()
            raise MachineError(f"cannot make the status socket: {error}", where=str(path)) from error
        finally:
            os.close(descriptor)
        path.chmod(0o600)
        listener.setblocking(False)
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._folder / SOCKET_NAME).unlink(missing_ok=True)

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(msgspec.json.encode(self._document()))
            await writer.drain()
        writer.close()


def read_status(state_folder: Path, timeout_s: float = 5.0) -> dict[str, Any] | None:
    """The document of the running agent; None when none runs. Raises MachineError when it may not be read."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(timeout_s)
    descriptor = -1
    try:
        descriptor = os.open(state_folder, os.O_RDONLY | os.O_DIRECTORY)
        line.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
        data = b"".join(iter(lambda: line.recv(1 << 16), b""))
        document: dict[str, Any] = json.loads(data)
        return document
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, ValueError) as error:
        raise MachineError(f"the agent's status cannot be read: {error}", where=str(state_folder)) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        line.close()
