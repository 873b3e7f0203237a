"""What trust costs: signing for a whole fleet, a site that asks and hears nothing new, and checking what came."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from agent.client import OrchestratorClient
from agent.verify import TrustStore
from manifests import ceremony, keys, signing
from manifests.model import DesiredInstance, DesiredState, Node, PlacedInstance, Site, SiteFacts
from orchestrator.blobs import BlobFiles
from orchestrator.publish import Publisher
from orchestrator.store import Store, fleets, sites
from orchestrator.store.sites import DirectorState
from tests.bench.figure import Figure
from tests.support.link import Link
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.releases import DirectSource, a_release

PREFIXES = ("trust_",)
SITES = 10_000
ROUNDS = 50


def five_instances() -> tuple[PlacedInstance, ...]:
    """Of one release, with a configuration each."""
    release = a_release()
    release = a_release()
    digest = signing.release_digest(signing.release_bytes(release))
    config = {"period_s": 1.0, "host": "10.0.0.1:502/" + "x" * 250}
    return tuple(
        PlacedInstance(
            instance=DesiredInstance(name=f"press-{i}", node="edge-1", config=config),
            release=release,
            release_digest=digest,
        )
        for i in range(5)
    )


def sign_sites(key_pem: bytes, first: int, last: int) -> tuple[int, float]:
    """Every file of these sites, five workloads with a configuration each; bytes made, and CPU time, s."""
    began = time.process_time()
    signer = signing.DirectorSigner(key_pem)
    now = datetime.now(UTC)
    placed = five_instances()
    made = 0
    for number in range(first, last):
        facts = SiteFacts(site=f"site-{number}", enterprise="acme", generation=7)
        made += sum(len(data) for data in signer.sign(facts, placed, version=3, now=now).values())
    return made, time.process_time() - began


def _sign() -> Iterator[Figure]:
    pem = keys.key_pem(keys.generate_signing_key())
    began = time.perf_counter()
    sign_sites(pem, 0, 1000)
    one = (time.perf_counter() - began) * SITES / 1000
    cores = min(2, os.cpu_count() or 1)
    step = SITES // cores
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(sign_sites, [pem] * cores, [0] * cores, [1] * cores))  # started and imported
        began = time.perf_counter()
        parts = list(pool.map(sign_sites, [pem] * cores, range(0, SITES, step), range(step, SITES + 1, step)))
        both = time.perf_counter() - began
    yield Figure(key="trust_sign_10k_sites_s", value=both, unit="s", goal="< 10 on 2 cores", ratio=both / 10)
    made, cpu = sum(part[0] for part in parts), sum(part[1] for part in parts)
    goal = "CPU time of all, told because others may use the cores: / 2 < 10"
    yield Figure(key="trust_sign_10k_sites_cpu_s", value=cpu, unit="s", goal=goal, ratio=cpu / 20)
    yield Figure(key="trust_sign_10k_sites_one_core_s", value=one, unit="s")
    yield Figure(key="trust_director_bytes_per_site", value=made / SITES, unit="B")


def _renew(folder: Path) -> Iterator[Figure]:
    """When the metadata of every site ends soon: read what each was told, sign, store."""
    ceremony.init_keys(folder / "keys", server_names=["localhost"], now=datetime.now(UTC))
    now_ns = time.time_ns()
    store = Store(f"sqlite:///{folder / 'centre.db'}")
    publisher = Publisher(
        store, BlobFiles(folder / "blobs"), folder / "keys" / "online", lambda: now_ns, lambda _: None
    )
    placed = five_instances()
    names = [f"site-{number:05d}" for number in range(SITES)]
    told = {n: DesiredState(SiteFacts(site=n, enterprise="acme", generation=7), placed) for n in names}
    with store.write() as conn:
        sites.put_listed(conn, "acme", {n: Site(name=n, nodes=(Node(name="edge-1"),)) for n in names})
        fleets.add(
            conn, 7, told, documents=[], sources=[], enterprise="acme", by="bench", reason="bench", now_ns=now_ns
        )
        for name in names:
            sites.assign(conn, name, 7, now_ns)
            sites.put_directors(conn, {name: (DirectorState(1, 7, now_ns, now_ns), {"timestamp.json": b"old"})})
    began, cpu = time.perf_counter(), _cpu()
    renewed = len(publisher.renew())
    wall, spent = time.perf_counter() - began, _cpu() - cpu
    store.close()
    if renewed != SITES:
        raise RuntimeError(f"{renewed} sites were signed, not {SITES}")
    goal = "< 10 on 2 cores; read, signed and stored by one process"
    yield Figure(key="trust_resign_10k_sites_s", value=wall, unit="s", goal=goal, ratio=wall / 10)
    yield Figure(key="trust_resign_10k_sites_cpu_s", value=spent, unit="s")


def _sync(folder: Path) -> Iterator[Figure]:
    with OrchestratorFake(folder / "far") as far:
        release = far.publish(a_release())
        far.assign("hamburg", [far.placed(f"press-{i}", release, config={"period_s": 1.0}) for i in range(5)])
        port = int(far.url.rsplit(":", 1)[1])
        identity = far.identity(folder / "s")
        store = TrustStore(folder / "s" / "trust", identity)
        with Link(("127.0.0.1", port)) as link:
            client = OrchestratorClient(f"https://127.0.0.1:{link.port}", identity)
            store.activate(store.refresh(client, datetime.now(UTC)))
            store.refresh(client, datetime.now(UTC))
            before, asked = link.bytes_up + link.bytes_down, len(far.requests)
            cpu = _cpu()
            for _ in range(ROUNDS):
                store.refresh(client, datetime.now(UTC))
            spent = (_cpu() - cpu) / ROUNDS
            time.sleep(0.1)
            wire = (link.bytes_up + link.bytes_down - before) / ROUNDS
            requests = (len(far.requests) - asked) / ROUNDS
            client.close()
        yield Figure(key="trust_unchanged_sync_requests", value=requests, unit="requests", goal="1")
        goal = "< 2000 with TLS, kept alive"
        yield Figure(key="trust_unchanged_sync_wire_bytes", value=wire, unit="B", goal=goal, ratio=wire / 2000)
        yield Figure(key="trust_unchanged_sync_cpu_ms", value=spent * 1000, unit="ms", goal="both ends, < 15 for ours")
        spent = 0.0
        source = DirectSource(far)
        for generation in range(2, 2 + ROUNDS):
            placed = [far.placed(f"press-{i}", release, config={"period_s": 1.0}) for i in range(5)]
            far.assign("hamburg", placed, generation=generation)
            cpu = _cpu()
            state = store.refresh(source, datetime.now(UTC))
            spent += _cpu() - cpu
            store.activate(state)
        value = spent / ROUNDS * 1000
        yield Figure(key="trust_verify_changed_cpu_ms", value=value, unit="ms", goal="< 15", ratio=value / 15)
        cpu = _cpu()
        for _ in range(ROUNDS):
            TrustStore(folder / "s" / "trust", identity).last_good(datetime.now(UTC))
        value = (_cpu() - cpu) / ROUNDS * 1000
        yield Figure(key="trust_verify_at_boot_cpu_ms", value=value, unit="ms", goal="< 15", ratio=value / 15)


def _cpu() -> float:
    """User and system time of this process, s."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def figures() -> Iterator[Figure]:
    yield from _sign()
    with tempfile.TemporaryDirectory(prefix="sluice-") as name:
        yield from _renew(Path(name) / "renew")
        yield from _sync(Path(name))
