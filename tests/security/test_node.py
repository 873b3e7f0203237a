"""Rows 14, 16, 25 and 30 to 32: what happens on the node itself, with a real engine and real agent processes."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.blobs import BlobStore
from agent.client import OrchestratorClient
from agent.runtimes.process import ProcessRuntime
from manifests import oci, signing
from manifests.errors import DocumentError, TrustError
from manifests.load import check_documents
from manifests.model import Blob, WorkloadClass, WorkloadRelease
from tests.support import tiny_worker
from tests.support.agent_node import ROOT, SITE, Node
from tests.support.orchestrator_fake import OrchestratorFake
from tests.support.procs import Program
from tests.support.releases import Plant, a_release


@pytest.fixture
def node(folder: Path) -> Iterator[Node]:
    with OrchestratorFake(folder / "far") as far:
        made = Node(folder, far)
        yield made
        made.end()


def docker(*words: str, data: bytes | None = None, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], input=data, capture_output=True, check=check, timeout=120)
    return done.stdout.decode().strip()


def tiny_image(name: str) -> str:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = uuid.uuid4().bytes
        info = tarfile.TarInfo("greeting")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return docker("import", "--change", 'CMD ["/none"]', "-", name, data=out.getvalue())


@pytest.mark.engine
def test_14_a_moved_tag_changes_nothing_that_was_signed(folder: Path, say: Any) -> None:
    tag = f"sluice-attack-{uuid.uuid4().hex[:10]}:1.0"
    good = tiny_image(tag)
    try:
        docker("save", "-o", str(folder / "saved.tar"), good)
        artifact = oci.export_image(folder / "saved.tar", folder / "blobs", "linux/amd64")
        evil = tiny_image(tag)  # the same name, another image
        assert evil != good
        assert tag.encode() not in signing.release_bytes(a_release(artifacts=(artifact,)))
        ids = oci.image_ids(artifact, lambda digest: folder / "blobs" / digest[7:])
        assert good in ids
        assert evil not in ids
    finally:
        docker("rmi", "-f", tag, good, check=False)
    say("the release names SHA-256 digests only; after the tag was moved the node still asks for the signed image id")


def test_16_edited_files_on_the_node_are_named_and_not_believed(folder: Path, say: Any) -> None:
    plant = Plant(folder)
    try:
        place = (plant.state / "trust" / "activated").resolve()
        targets = next(path for path in (place / "director").iterdir() if path.name.endswith("targets.json"))
        text = targets.read_bytes()
        targets.write_bytes(text.replace(b"period_s", b"period_x"))
        store = plant.open()
        assert store.last_good(plant.now) == plant.good  # from the other copy
        words = [store.status().refusal]
        import hashlib

        listed = json.loads((place / "contents.json").read_bytes())
        forged = targets.read_bytes()
        listed["files"][f"director/{targets.name}"] = hashlib.sha256(forged).hexdigest()
        (place / "contents.json").write_text(json.dumps(listed))  # and the list made to fit
        store = plant.open()
        assert store.last_good(plant.now) == plant.good
        words.append(store.status().refusal)
        shutil.rmtree(plant.state / "trust" / "accepted", ignore_errors=True)
        (plant.state / "trust" / "accepted").unlink(missing_ok=True)
        assert plant.open().last_good(plant.now) is None
    finally:
        plant.far.stop()
    assert words == ["damaged", words[1]]
    assert words[1] in ("bad-digest", "bad-signature", "malformed", "bad-metadata")
    say(f"a changed byte: {words[0]}; with its digest made to fit: {words[1]}; root on the node always wins (limit)")


FORBIDDEN: dict[str, Any] = {
    "privileged": True,
    "capAdd": ["SYS_ADMIN"],
    "capabilities": ["ALL"],
    "hostNetwork": True,
    "hostPID": True,
    "networkMode": "host",
    "volumes": ["/:/host"],
    "mounts": [{"source": "/var/run/docker.sock", "target": "/var/run/docker.sock"}],
    "devices": ["/dev/mem"],
    "securityOpt": ["seccomp=unconfined"],
    "sysctls": {"net.ipv4.ip_forward": "1"},
    "env": {"LD_PRELOAD": "/x.so"},
    "user": "root",
    "entrypoint": ["/bin/sh"],
}


@pytest.mark.engine
def test_25_a_workload_can_ask_for_no_privilege_and_gets_none(folder: Path, say: Any) -> None:
    import docker as engine

    from agent.runtimes.docker_engine import DockerRuntime

    base = {
        "apiVersion": "sluice/v1",
        "kind": "Workload",
        "metadata": {"name": "evil"},
        "spec": {
            "version": "1.0.0",
            "class": "translator",
            "images": [{"platform": "process", "packages": ["x"], "command": ["x"]}],
        },
    }
    refused = 0
    for field, value in FORBIDDEN.items():
        document = json.loads(json.dumps(base))
        document["spec"][field] = value
        with pytest.raises(DocumentError) as caught:
            check_documents([document])
        assert any(field in str(problem) for problem in caught.value.problems), field
        refused += 1
    smuggled = json.loads(signing.release_bytes(a_release())) | FORBIDDEN
    release = signing.parse_release(json.dumps(smuggled).encode())
    assert not any(hasattr(release, field) for field in FORBIDDEN if field != "user")

    site = f"t{secrets.token_hex(3)}"
    runtime = DockerRuntime(folder, site=site, node="edge")
    artifact = tiny_worker.container_artifact(folder, runtime.platform)
    instance = tiny_worker.make(artifact, "work", site=site)
    runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
    runtime.connect("ot")
    runtime.connect("site")
    try:
        runtime.start(instance, tiny_worker.write_context(folder, instance))
        details = engine.APIClient(version="auto").inspect_container(f"sluice-{site}-edge-work")
        host = details["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert not host["Devices"]
        assert host["ReadonlyRootfs"]
        assert host["PidMode"] in ("", "private")
        assert host["IpcMode"] != "host"
        assert not host["NetworkMode"].startswith("host")
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert not any("unconfined" in option for option in host["SecurityOpt"])
        assert not any("docker.sock" in mount["Source"] for mount in details["Mounts"])
        assert details["Config"]["User"] not in ("", "0", "root", "0:0")
        assert not any(word.startswith("LD_") for word in details["Config"]["Env"] or [])
    finally:
        runtime.stop("work", 1)
        runtime.remove("work")
        runtime.forget_except([], [])
    say(f"{refused} forbidden fields refused by name, ignored in a release; the container has none")


def test_30_the_agent_is_not_updated_by_the_centre_and_a_false_package_is_named(
    node: Node, folder: Path, say: Any
) -> None:
    """There is no updater to attack or to interrupt; what people install is checked against the catalog first."""
    source = folder / "new" / "agent"
    source.mkdir(parents=True)
    (source / "__main__.py").write_text("raise SystemExit('a new agent')")
    made = oci.pack_process([source], ["python", "-m", "agent"], folder / "new-blobs", base=folder / "new")
    package = folder / "new-blobs" / made.root.digest[7:]
    node.far.add_blob(package.read_bytes())

    def a_package(version: str, workload_class: WorkloadClass = WorkloadClass.SYSTEM) -> WorkloadRelease:
        return WorkloadRelease(name="agent", version=version, workload_class=workload_class, artifacts=(made,))

    new, old = a_package("9.0.0"), a_package("0.0.1")
    disguised, unsigned = a_package("9.0.0", WorkloadClass.TRANSLATOR), a_package("9.9.9")
    node.far.publish(new, old, disguised)
    node.order(1, ("press", node.release(), {}), ("agent", new, {}))
    mine = [path.read_bytes() for path in sorted((ROOT / "agent").glob("*.py"))]
    node.agent.start()
    life = node.until_running("press")
    pid = node.agent.pid
    node.until(lambda: node.word("agent").startswith(("Failed", "Waiting")), "it was not tried as a workload")
    assert node.agent.pid == pid
    assert node.instance("press")["runtime_id"] == life
    assert [path.read_bytes() for path in sorted((ROOT / "agent").glob("*.py"))] == mine

    def verified(release: WorkloadRelease, file: Path) -> tuple[int, str]:
        document = folder / "release.json"
        document.write_bytes(signing.release_bytes(release))
        command = [
            sys.executable,
            "-m",
            "agent",
            "verify-release",
            *map(str, (document, file)),
            "--state",
            str(node.state),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    assert verified(new, package)[0] == 0
    altered = folder / "altered.tar.gz"
    altered.write_bytes(package.read_bytes()[:-1] + b"x")
    words = []
    for release, file in ((new, altered), (unsigned, package), (disguised, package), (old, package)):
        code, text = verified(release, file)
        assert code == 1
        words.append(text[:70])
    say(f"named as a workload it is one, the agent stays what it was; packages refused: {'; '.join(words)}")


def said(node: Node) -> str:
    """What the agent's status complains of: its trust, or its link."""
    status = node.status()
    return str(status.get("trust", {}).get("refusal") or status.get("link", {}).get("reason", ""))[:90]


def test_31_a_clock_in_1970_or_2100_is_named_and_stops_nothing(node: Node, say: Any) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("wrong clocks are NOT tested with a real agent: faketime is not installed")
    node.order(1, ("press", node.release(), {}))
    node.agent.start()
    life = node.until_running("press")
    node.agent.stop()
    honest = node.agent
    words = []
    for moment in ("1970-01-02 00:00:00", "2100-01-01 00:00:00"):
        clock = {"LD_PRELOAD": str(library), "FAKETIME": f"@{moment}"}
        node.agent = Program("agent", honest.command, node.folder / "agent.log", cwd=ROOT, env=clock)
        node.agent.start()
        try:
            node.until(lambda: said(node), "it says nothing")
            node.until(lambda: node.instance("press").get("runtime_id") == life, "it did not go on")
            words.append(f"{moment[:4]}: {said(node)}")
            assert node.producers()
        finally:
            node.agent.stop()
    node.agent = honest
    node.agent.start()
    node.until(lambda: node.status().get("link", {}).get("up") and not said(node), "no recovery", 60)
    assert node.instance("press")["runtime_id"] == life
    say(f"{'; '.join(words)}; the same process ran on, and the right clock healed it")


def test_32_a_blob_swapped_between_check_and_use_is_refused(node: Node, folder: Path, say: Any) -> None:
    """The archive is fetched and checked; then somebody with rights on the disk swaps it before it is unpacked."""
    blob = node.artifact.root
    client = OrchestratorClient(node.far.url, node.far.identity(folder / "other", SITE, "edge-1"))
    store = BlobStore(folder / "store")
    path = store.fetch(client, Blob(digest=blob.digest, size=blob.size))
    client.close()
    package = folder / "evil" / "producer"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text("open('/tmp/pwned', 'w')")
    evil = oci.pack_process([package], ["python", "-m", "producer"], folder / "evil-blobs", base=folder / "evil")
    path.chmod(0o644)
    path.write_bytes((folder / "evil-blobs" / evil.root.digest[7:]).read_bytes())
    runtime = ProcessRuntime(folder / "runtime")
    with pytest.raises(TrustError) as caught:
        runtime.pull(node.artifact, store.path)
    assert not runtime.observe([node.artifact]).prepared
    out = io.BytesIO()
    image = tiny_worker.container_artifact(folder, "linux/amd64")
    layer = folder / "swapped"
    layer.mkdir()
    for one in (image.root, *image.blobs):
        shutil.copy(tiny_worker.blob_path(folder, one.digest), layer / one.digest[7:])
    (layer / image.blobs[-1].digest[7:]).write_bytes(b"x" * image.blobs[-1].size)
    with pytest.raises(TrustError) as changed:
        oci.hybrid_tar(image, lambda digest: layer / digest[7:], out)
    assert not store.verify(blob.digest)
    assert not store.has(blob.digest)
    say(
        f"archive swapped after the check: {caught.value.kind}; image layer: {changed.value.kind}; nothing was unpacked"
    )
