"""Something tiny to run, for both runtimes: says hello, obeys SIGTERM, crashes when its configuration says so."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import docker

from agent.runtimes.base import Wanted, wanted
from manifests.model import (
    CONTEXT_NAME,
    Artifact,
    Conduit,
    DesiredInstance,
    PlacedInstance,
    Resources,
    Service,
    SiteFacts,
    WorkloadClass,
    WorkloadRelease,
)
from manifests.oci import export_image, pack_process

PYTHON_WORKER = """\
import os, pathlib, signal, sys, time
context = pathlib.Path(os.environ["SLUICE_RUN"], "context.json").read_text()
print("hello", flush=True)
if '"crash"' in context:
    sys.exit(7)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(60)
"""

C_WORKER = r"""
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static volatile sig_atomic_t ended;
static void end(int number) { (void)number; ended = 1; }
int main(void) {
    char text[8192] = {0};
    FILE *file = fopen("/run/sluice/context.json", "r");
    if (!file || !fread(text, 1, sizeof text - 1, file)) return 9;
    puts("hello"); fflush(stdout);
    if (strstr(text, "\"crash\"")) return 7;
    signal(SIGTERM, end);
    while (!ended) sleep(60);
    return 0;
}
"""


def process_artifact(folder: Path) -> Artifact:
    package = folder / "source" / "worker"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PYTHON_WORKER)
    return pack_process([package], ["python", "-m", "worker"], folder / "blobs", base=folder / "source")


def container_artifact(folder: Path, platform: str) -> Artifact:
    source = folder / "worker.c"
    source.write_text(C_WORKER)
    return of_source(source, folder, platform)


def of_source(source: Path, folder: Path, platform: str) -> Artifact:
    """Compile, import as an image of one file, save it, and leave no trace of it in the engine."""
    binary = folder / source.stem
    compiler = (
        ["gcc"] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc", "-target", "native-linux-musl"]
    )
    subprocess.run([*compiler, "-static", "-Os", "-o", binary, source], check=True)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(binary, binary.name)
    api = docker.APIClient(version="auto")
    image = json.loads(api.import_image_from_data(layer.getvalue(), changes=[f'CMD ["/{binary.name}"]']))["status"]
    saved = folder / "image.tar"
    with saved.open("wb") as out:
        for chunk in api.get_image(image):
            out.write(chunk)
    api.remove_image(image)
    return export_image(saved, folder / "blobs", platform)


def blob_path(folder: Path, digest: str) -> Path:
    (found,) = (path for path in (folder / "blobs").rglob(digest.removeprefix("sha256:")) if path.is_file())
    return found


def make(
    artifact: Artifact, name: str = "work", *, site: str, version: int = 1, config: dict[str, Any] | None = None
) -> Wanted:
    placed = PlacedInstance(
        instance=DesiredInstance(name=name, node="edge", config=config or {}),
        release=WorkloadRelease(
            name="worker",
            version=f"1.0.{version}",
            workload_class=WorkloadClass.TRANSLATOR,
            artifacts=(artifact,),
            conduits=(Conduit(segment="ot"), Conduit(segment="site")),
            # Each site its own: on a cluster whose pods use the machine's network, two tests must not want the same.
            provides=(Service(name="work", segment="site", port=20_000 + zlib.crc32(site.encode()) % 10_000),),
            resources=Resources(memory_mb=32, cpus=0.25, pids=16, scratch_mb=4),
        ),
        release_digest=f"sha256:{version:064x}",
    )
    facts = SiteFacts(site=site, enterprise="acme", generation=version)
    return wanted(facts, placed, artifact.platform)


def write_context(folder: Path, instance: Wanted) -> Path:
    run_folder = folder / "run" / instance.name
    run_folder.mkdir(parents=True, exist_ok=True)
    run_folder.chmod(0o755)
    (run_folder / CONTEXT_NAME).write_text(json.dumps({"config": instance.config}))
    return run_folder
