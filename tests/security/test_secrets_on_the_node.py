"""A secret is plain text in memory, for one instance, and nowhere else: searched for with a canary."""

from __future__ import annotations

import asyncio
import json
import secrets as randomness
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from msgspec import structs

from agent.actions import Configure, Remove, Start, Stop
from agent.execute import Executor
from agent.runtimes.base import Wanted, wanted
from agent.runtimes.docker_engine import DockerRuntime
from agent.secrets import SecretKeeper, opening_key, secrets_folder
from manifests.errors import TrustError
from manifests.model import DesiredInstance, PlacedInstance, RunContext, SealedSecret
from manifests.secrets import SecretPlace, new_key, public_key, seal
from tests.support import tiny_worker
from workloads.kit.context import read_secret

CANARY = "canary-77ab-not-for-anybody"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sluice-"))
    yield made
    shutil.rmtree(secrets_folder(made, "x").parent.parent, ignore_errors=True)
    shutil.rmtree(made, ignore_errors=True)


def sealed_for(keeper: SecretKeeper, value: str, version: int, *, instance: str = "work") -> SealedSecret:
    place = SecretPlace(site="hamburg", node="edge", instance=instance, name="broker", version=version)
    return seal(value.encode(), keeper.public, place)


def test_the_opening_key_is_made_once_and_only_its_owner_reads_it(folder: Path) -> None:
    first = opening_key(folder)
    assert opening_key(folder) == first
    assert (folder / "opening.pem").stat().st_mode & 0o777 == 0o600


def test_what_was_sealed_elsewhere_or_for_another_place_changes_nothing(folder: Path) -> None:
    keeper = SecretKeeper(folder, "hamburg", "edge")
    good = sealed_for(keeper, CANARY, 1)
    keeper.lay_out("work", [good])
    path = secrets_folder(folder, "work") / "broker"
    place = SecretPlace(site="hamburg", node="edge", instance="work", name="broker", version=2)
    for bad in (
        structs.replace(good, version=2),  # an old value under a new number
        sealed_for(keeper, "other", 2, instance="other"),
        seal(b"other", public_key(new_key()), place),
    ):
        with pytest.raises(TrustError, match="does not open here"):
            keeper.lay_out("work", [bad])
        assert path.read_text() == CANARY
    keeper.lay_out("work", [])
    assert not path.parent.exists()


class NoBus:
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    async def open(self, instance: str, run_folder: Path) -> None: ...

    async def close(self, instance: str) -> None: ...

    def forget_voice(self, instance: str) -> None: ...

    def declare(self, instance: str, streams: Iterable[str]) -> None: ...

    def configure(self, instance: str, generation: int, revision: int) -> None:
        self.told.append((instance, generation, revision))


async def in_thread(run: Any, *arguments: Any) -> Any:
    return run(*arguments)


@pytest.mark.engine
def test_a_secret_reaches_its_container_is_replaced_in_place_and_leaves_no_trace(folder: Path) -> None:
    site = f"t{randomness.token_hex(3)}"
    runtime = DockerRuntime(folder, site=site, node="edge")
    artifact = tiny_worker.container_artifact(folder, runtime.platform)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    keeper, bus = SecretKeeper(folder, site, "edge"), NoBus()
    none: Any = None
    run_root = folder / "run"
    executor = Executor(
        runtime, none, bus, run_root=run_root, node="edge", hosts={}, in_thread=in_thread, secrets=keeper
    )
    plain = tiny_worker.make(artifact, site=site)

    def instance(value: str, version: int) -> Wanted:
        place = SecretPlace(site=site, node="edge", instance="work", name="broker", version=version)
        sealed = seal(value.encode(), keeper.public, place)
        placed = PlacedInstance(
            instance=DesiredInstance(name="work", node="edge", secrets=(sealed,)),
            release=structs.replace(plain.release, conduits=(), provides=()),
            release_digest=plain.release_digest,
        )
        return wanted(plain.facts, placed, artifact.platform)

    api = docker.APIClient(version="auto")
    name = f"sluice-{site}-edge-work"
    first = instance(CANARY, 1)
    assert first.config_digest != plain.config_digest  # the folder appears with a new start
    try:
        asyncio.run(executor.perform(Start(first)))
        found = runtime.observe([]).instances["work"]
        inside = Path(f"/proc/{api.inspect_container(name)['State']['Pid']}/root/run/secrets")
        assert (inside / "broker").read_text() == CANARY
        seen = (inside / "broker").stat()
        assert (seen.st_mode & 0o777, seen.st_uid) == (0o400, 10001)
        [line] = [m for m in mountinfo(api, name) if " /run/secrets " in m]
        assert " ro," in line
        assert " - tmpfs " in line
        second = instance("the next value", 2)
        assert second.config_digest == first.config_digest
        assert executor.told(["work"])["work"] == first.told_digest != second.told_digest
        asyncio.run(executor.perform(Configure(second)))
        assert (inside / "broker").read_text() == "the next value"
        assert bus.told
        assert runtime.observe([]).instances["work"].runtime_id == found.runtime_id
        assert executor.told(["work"])["work"] == second.told_digest
        asyncio.run(executor.perform(Configure(instance(CANARY, 3))))
        said = json.dumps(api.inspect_container(name)) + "".join(runtime.logs("work"))
        assert CANARY not in said
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_socket():
                assert CANARY.encode() not in path.read_bytes(), path
        (secrets_folder(folder, "work") / "broker").unlink()  # as after a power cut
        assert executor.told(["work"])["work"] == ""
    finally:
        asyncio.run(executor.perform(Stop("work")))
        asyncio.run(executor.perform(Remove("work")))
        runtime.forget_except([], [])
    assert not secrets_folder(folder, "work").exists()


def mountinfo(api: Any, name: str) -> list[str]:
    pid = api.inspect_container(name)["State"]["Pid"]
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def test_a_workload_reads_its_secret_anew_each_time_and_says_what_is_missing(folder: Path) -> None:
    base = RunContext(
        enterprise="a", site="hamburg", node="edge", instance="work", workload="w", version="1.0.0", generation=1
    )
    (folder / "broker").write_text("one")
    context = structs.replace(base, secrets=str(folder))
    assert read_secret(context, "broker") == "one"
    (folder / "broker").write_text("two")
    assert read_secret(context, "broker") == "two"
    with pytest.raises(Exception, match="sluice secret set"):
        read_secret(base, "broker")
    with pytest.raises(Exception, match="cannot read the secret"):
        read_secret(context, "other")
