"""Rollouts as stored: everything the loop needs to go on after a crash lies here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from sqlalchemy import Connection, insert, select, update

from manifests.model import Gate
from manifests.policy import Approver
from orchestrator.rollouts.approvals import RolloutApproval
from orchestrator.rollouts.states import RolloutState, RolloutStatus, SitePhase, SiteState, WaveState, WaveStatus
from orchestrator.store.tables import rollout, rollout_site, rollout_wave


def add(conn: Connection, state: RolloutState) -> RolloutState:
    """Store a new rollout; gives it back with its number."""
    (number,) = conn.execute(insert(rollout).values(_head(state)).returning(rollout.c.id)).one()
    for index, wave in enumerate(state.waves):
        conn.execute(insert(rollout_wave).values(rollout_id=number, number=index, **_wave(wave)))
        rows = [{"rollout_id": number, "wave": index, **_site(s)} for s in wave.sites]
        if rows:
            conn.execute(insert(rollout_site), rows)
    return replace(state, id=number)


def save(conn: Connection, before: RolloutState, after: RolloutState) -> None:
    """Write what differs between two states of one rollout."""
    if _head(before) != _head(after):
        conn.execute(update(rollout).where(rollout.c.id == after.id).values(_head(after)))
    for index, (old, new) in enumerate(zip(before.waves, after.waves, strict=True)):
        if old is new:
            continue
        if _wave(old) != _wave(new):
            key = (rollout_wave.c.rollout_id == after.id, rollout_wave.c.number == index)
            conn.execute(update(rollout_wave).where(*key).values(_wave(new)))
        for old_site, new_site in zip(old.sites, new.sites, strict=True):
            if old_site != new_site:
                which = (rollout_site.c.rollout_id == after.id, rollout_site.c.site == new_site.site)
                conn.execute(update(rollout_site).where(*which).values(_site(new_site)))


def get(conn: Connection, number: int, *, lock: bool = False) -> RolloutState | None:
    query = select(rollout).where(rollout.c.id == number)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    waves_rows = conn.execute(
        select(rollout_wave).where(rollout_wave.c.rollout_id == number).order_by(rollout_wave.c.number)
    ).all()
    site_rows = conn.execute(
        select(rollout_site)
        .where(rollout_site.c.rollout_id == number)
        .order_by(rollout_site.c.wave, rollout_site.c.site)
    ).all()
    waves = []
    for wave in waves_rows:
        sites = tuple(
            SiteState(
                s.site,
                SitePhase(s.phase),
                s.reason,
                s.detail,
                s.since_ns,
                s.assigned,
                s.moving_ns,
                json.loads(s.counters),
            )
            for s in site_rows
            if s.wave == wave.number
        )
        waves.append(
            WaveState(
                wave.name, wave.max_concurrent, sites, WaveStatus(wave.status), wave.reason, wave.detail, wave.since_ns
            )
        )
    return RolloutState(
        id=row.id,
        generation=row.generation,
        gate=msgspec.json.decode(row.gate, type=Gate),
        on_failure=row.on_failure,
        waves=tuple(waves),
        status=RolloutStatus(row.status),
        reason=row.reason,
        detail=row.detail,
        since_ns=row.since_ns,
        ended_ns=row.ended_ns,
        started_ns=row.started_ns,
        started_by=row.started_by,
        why=row.why,
        changes=row.changes,
        needs=tuple(Approver(side) for side in json.loads(row.needs)),
        approvals=msgspec.json.decode(row.approvals, type=tuple[RolloutApproval, ...]),
        single_person=row.single_person,
    )


def unfinished(conn: Connection) -> list[int]:
    """Waiting, running and paused rollouts, oldest first; by rule there is at most one."""
    states = (RolloutStatus.WAITING.value, RolloutStatus.RUNNING.value, RolloutStatus.PAUSED.value)
    return list(conn.scalars(select(rollout.c.id).where(rollout.c.status.in_(states)).order_by(rollout.c.id)))


def baseline(conn: Connection) -> int | None:
    """The newest rollout that is done: what late sites are still moved to."""
    query = select(rollout.c.id).where(rollout.c.status == RolloutStatus.DONE.value)
    return conn.scalars(query.order_by(rollout.c.id.desc()).limit(1)).one_or_none()


def numbers(conn: Connection, limit: int = 100) -> Sequence[int]:
    """Newest first."""
    return list(conn.scalars(select(rollout.c.id).order_by(rollout.c.id.desc()).limit(limit)))


def _head(state: RolloutState) -> dict[str, object]:
    return {
        "generation": state.generation,
        "status": state.status.value,
        "reason": state.reason,
        "detail": state.detail,
        "since_ns": state.since_ns,
        "started_ns": state.started_ns,
        "started_by": state.started_by,
        "why": state.why,
        "ended_ns": state.ended_ns,
        "gate": msgspec.json.encode(state.gate).decode(),
        "on_failure": state.on_failure,
        "changes": state.changes,
        "needs": json.dumps([side.value for side in state.needs]),
        "approvals": msgspec.json.encode(state.approvals).decode(),
        "single_person": state.single_person,
    }


def _wave(wave: WaveState) -> dict[str, object]:
    return {
        "name": wave.name,
        "max_concurrent": wave.max_concurrent,
        "status": wave.status.value,
        "reason": wave.reason,
        "detail": wave.detail,
        "since_ns": wave.since_ns,
    }


def _site(state: SiteState) -> dict[str, object]:
    return {
        "site": state.site,
        "phase": state.phase.value,
        "reason": state.reason,
        "detail": state.detail,
        "since_ns": state.since_ns,
        "assigned": state.assigned,
        "moving_ns": state.moving_ns,
        "counters": json.dumps(dict(state.counters), sort_keys=True),
    }
