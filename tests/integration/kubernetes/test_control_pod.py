"""A pod of class control gets what real time needs as far as the cluster can give it, and says what it cannot."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

import pytest

from agent.runtimes.containers import RT_FILE, container_platform
from agent.runtimes.kubernetes.objects import NO_RT_SHARE
from tests.integration.agent.test_control_container import PROBE, of_control
from tests.support import tiny_worker
from tests.support.cluster import ClusterNamespace, load_image

pytestmark = [pytest.mark.kubernetes, pytest.mark.engine]


def test_a_control_pod_has_its_folders_its_rights_and_a_note_of_what_is_missing(folder: Path) -> None:
    space = ClusterNamespace(folder, f"t{secrets.token_hex(3)}")
    runtime = space.runtime(folder)
    try:
        artifact = tiny_worker.of_source(PROBE, folder, container_platform())
        runtime.pull(artifact, partial(tiny_worker.blob_path, folder))
        for archive in (folder / "images").glob("*.tar"):
            load_image(archive)
        instance = of_control(artifact, space.site, 1)
        runtime.start(instance, tiny_worker.write_context(folder, instance))
        kept = folder / "kept" / "tank"
        # The probe writes as root, drops to another user with its capabilities, and writes again.
        space.until(lambda: {path.name for path in kept.iterdir()} == {"root", "user"}, "it did not drop its user")
        found = runtime.observe([]).instances["tank"]
        assert (found.core, found.note) == (1, NO_RT_SHARE if RT_FILE.exists() else "")
        (pod,) = space.pods("tank")
        assert pod["status"]["qosClass"] == "Guaranteed"
        runtime.stop("tank", 1)
        runtime.remove("tank")
        assert {path.name for path in kept.iterdir()} == {"root", "user"}
    finally:
        runtime.close()
        space.close()
