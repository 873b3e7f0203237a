"""A secret goes from its sealed form into the machine's memory and from there into one pod, past the cluster."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import pytest
from msgspec import structs

from agent.runtimes.containers import container_platform
from agent.secrets import SecretKeeper, secrets_folder
from manifests.secrets import SecretPlace, seal
from tests.support import tiny_worker
from tests.support.cluster import ClusterNamespace, kubectl, load_image

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]
CANARY = "canary-71c4-not-for-the-cluster"
READER = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) {
    char text[256] = {0};
    FILE *file = fopen("/run/secrets/password", "r");
    FILE *seen = fopen("/run/kept/seen", "w");
    if (!file || !seen || !fread(text, 1, sizeof text - 1, file)) return 9;
    fputs(text, seen);
    fclose(seen);
    for (;;) pause();
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to the workload's user")
def test_a_secret_reaches_its_pod_and_stands_in_no_object_of_the_cluster(folder: Path) -> None:
    space = ClusterNamespace(folder, f"t{secrets.token_hex(3)}")
    runtime = space.runtime(folder, secrets=PurePosixPath(secrets_folder(folder, "any").parent))
    keeper = SecretKeeper(folder, space.site, "edge")
    try:
        source = folder / "reader.c"
        source.write_text(READER)
        artifact = tiny_worker.of_source(source, folder, container_platform())
        runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
        for archive in (folder / "images").glob("*.tar"):
            load_image(archive)
        place = SecretPlace(site=space.site, node="edge", instance="work", name="password", version=1)
        sealed = seal(CANARY.encode(), keeper.public, place)
        plain = tiny_worker.make(artifact, site=space.site)
        instance = replace(plain, secrets=(sealed,), release=structs.replace(plain.release, keeps=True))
        keeper.lay_out("work", [sealed])
        runtime.start(instance, tiny_worker.write_context(folder, instance))
        seen = folder / "kept" / "work" / "seen"
        space.until(lambda: seen.exists() and seen.read_text() == CANARY, "the pod has not read it")
        kinds = "deployments,replicasets,pods,services,configmaps,secrets,events"
        assert CANARY not in kubectl("get", kinds, "-n", space.name, "-o", "yaml")
        runtime.stop("work", 1)
        runtime.remove("work")
        keeper.forget("work")
        assert not secrets_folder(folder, "work").exists()
    finally:
        keeper.forget("work")
        runtime.close()
        space.close()
