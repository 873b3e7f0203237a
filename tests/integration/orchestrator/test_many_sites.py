"""Looking at a fleet costs the same number of questions to the database however many sites there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, event

from manifests import ceremony, model
from manifests.messages import BufferStatus, InstanceStatus, State, StatusReport, TrustStatus
from manifests.model import DesiredState, SiteFacts
from orchestrator.blobs import BlobFiles
from orchestrator.publish import Publisher
from orchestrator.rollouts.loop import Rollouts
from orchestrator.rollouts.states import RolloutStatus
from orchestrator.store import FEW, Store, fleets, rollouts, sites
from orchestrator.store.sites import DirectorState
from orchestrator.views import SiteReader

NOW_NS = 10**18


@contextmanager
def counted(store: Store) -> Iterator[list[int]]:
    count = [0]

    def asked(*_: object) -> None:
        count[0] += 1

    event.listen(store.engine, "before_cursor_execute", asked)
    try:
        yield count
    finally:
        event.remove(store.engine, "before_cursor_execute", asked)


def reader(conn: Connection) -> SiteReader:
    return SiteReader(conn, lambda _site, _node: NOW_NS, NOW_NS, 10**10)


def fleet(folder: Path, count: int, *, generation: int = 1) -> Store:
    store = Store(f"sqlite:///{folder / f'{count}.db'}")
    names = [f"site-{number:04d}" for number in range(count)]
    with store.write() as conn:
        documents = {name: msgspec.convert({"name": name, "nodes": [{"name": "edge"}]}, model.Site) for name in names}
        sites.put_listed(conn, "acme", documents)
        states = {
            name: DesiredState(facts=SiteFacts(site=name, enterprise="acme", generation=generation), instances=())
            for name in names
        }
        fleets.add(
            conn, generation, states, documents=[], sources=[], enterprise="acme", by="t", reason="t", now_ns=NOW_NS
        )
        for number, name in enumerate(names):
            sites.add_certificate(conn, f"{number:x}", name, "edge", NOW_NS, 2 * NOW_NS)
            report = StatusReport(
                node="edge",
                agent_version="0",
                incarnation="i",
                at_ns=NOW_NS,
                started_ns=NOW_NS,
                platform="process",
                runtime="process",
                trust=TrustStatus(adopted_generation=generation),
                instances=(InstanceStatus(name="pump", state=State.RUNNING, reason="Ok", since_ns=NOW_NS),),
                buffer=BufferStatus(),
            )
            sites.put_report(conn, name, report, NOW_NS, 10**10)
    return store


class Announcer:
    def assign(self, conn: Connection, names: Sequence[str], generation: int) -> list[str]:
        return [name for name in names if sites.assign(conn, name, generation, NOW_NS)]

    def announce(self, site: str) -> None: ...


def rollouts_of(store: Store) -> Rollouts:
    publisher = Announcer()
    return Rollouts(
        store, publisher, reader, lambda _number: None, now_ns=lambda: NOW_NS, offline_after_ns=10**10, round_s=1.0  # type: ignore[arg-type]  # signs nothing
    )  # fmt: skip


@pytest.mark.parametrize("few", [True, False])
def test_the_summaries_of_a_fleet_ask_the_same_few_questions_for_few_and_for_many(tmp_path: Path, few: bool) -> None:
    with (store := fleet(tmp_path, 3 if few else 450)).read() as conn, counted(store) as asked:
        found = reader(conn).summaries(sites.listed(conn))
    assert len(found) == (3 if few else 450)
    assert {summary.health.reason for summary in found} == {"Ok"}
    assert asked[0] <= 8
    store.close()


def test_a_finished_rollout_costs_next_to_nothing_each_second(tmp_path: Path) -> None:
    store = fleet(tmp_path, 450)
    loop = rollouts_of(store)
    policy = model.RolloutSpec(waves=(model.Wave(name="all", max_concurrent=1000),), gate=model.Gate(soak_s=0))
    number = loop.start(policy, 1, user="t", why="t", changes=lambda _before, _after: []).id
    for _ in range(10):
        loop.round()
    with store.read() as conn:
        state = rollouts.get(conn, number)
    assert state is not None
    assert state.status is RolloutStatus.DONE
    with counted(store) as asked:
        assert loop.round() == 0
    assert asked[0] <= 8
    store.close()


def test_a_wave_of_hundreds_is_told_in_a_few_transactions(tmp_path: Path) -> None:
    store = fleet(tmp_path, 450)
    loop = rollouts_of(store)
    policy = model.RolloutSpec(waves=(model.Wave(name="all", max_concurrent=1000),))
    loop.start(policy, 1, user="t", why="t", changes=lambda _before, _after: [])
    loop.round()
    loads: list[str] = []

    def asked(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM rollout_site" in statement:
            loads.append(statement)

    event.listen(store.engine, "before_cursor_execute", asked)
    assert loop.round() == 450
    assert len(loads) <= 12
    store.close()


def test_what_ends_soon_is_signed_again_in_a_few_transactions(tmp_path: Path, database: str) -> None:
    ceremony.init_keys(tmp_path / "keys", server_names=["localhost"], now=datetime.fromtimestamp(NOW_NS / 1e9, UTC))
    store = Store(database)
    told: list[str] = []
    blobs = BlobFiles(tmp_path / "blobs")
    publisher = Publisher(store, blobs, tmp_path / "keys" / "online", lambda: NOW_NS, told.append)
    names = [f"site-{number:04d}" for number in range(2 * FEW + 3)]
    with store.write() as conn:
        documents = {name: msgspec.convert({"name": name, "nodes": [{"name": "edge"}]}, model.Site) for name in names}
        sites.put_listed(conn, "acme", documents)
        states = {
            name: DesiredState(facts=SiteFacts(site=name, enterprise="acme", generation=3), instances=())
            for name in names[1:]  # the first was never told anything
        }
        fleets.add(conn, 3, states, documents=[], sources=[], enterprise="acme", by="t", reason="t", now_ns=NOW_NS)
        for name in names:
            if name != names[0]:
                sites.assign(conn, name, 3, NOW_NS)
        late = DirectorState(7, 3, NOW_NS, NOW_NS + 1)
        sites.put_directors(conn, {name: (late, {"7.targets.json": b"old"}) for name in names})
    with counted(store) as asked:
        assert publisher.renew() == names
    assert asked[0] <= 60
    assert told == names
    with store.read() as conn:
        signed = sites.director_states(conn, names)
        assert {state.version for state in signed.values()} == {8}
        assert [signed[name].generation for name in names[:2]] == [0, 3]
        files = sites.director_files(conn, names[-1])
    assert sorted(files) == ["8.snapshot.json", "8.targets.json", "timestamp.json"]
    said = msgspec.json.decode(files["8.targets.json"])["signed"]
    assert (said["x-site"], said["x-sluice"]["generation"]) == (names[-1], 3)
    assert publisher.renew() == []
    store.close()
