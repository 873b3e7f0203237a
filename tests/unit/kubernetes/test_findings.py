"""What the cluster's answers say of an instance: table of cases, as real clusters gave them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.runtimes.base import Phase
from agent.runtimes.kubernetes import findings

LABELS = {"sluice.instance": "pump"}
RUNNING = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
CRASHED = {"terminated": {"exitCode": 7, "reason": "Error", "startedAt": "2026-11-22T10:00:00Z"}}


def told(replicas: int = 1, **status: Any) -> dict[str, Any]:
    meta = {"name": "pump.edge1", "uid": "d-1", "generation": 3, "labels": LABELS, "annotations": {"sluice.core": "1"}}
    return {"metadata": meta, "spec": {"replicas": replicas}, "status": status}


def pod(state: dict[str, Any] | None = None, *, last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    statuses = []
    if state is not None:
        container = {"state": state, "containerID": "docker://0123456789abcdef", "restartCount": 2, "image": "sha256:c"}
        statuses = [container | ({"lastState": last} if last else {})]
    meta = {"name": "p", "uid": "aaaabbbb-cccc", "creationTimestamp": "1", **more.pop("meta", {})}
    return {"metadata": meta, "status": {"phase": "Pending", "containerStatuses": statuses, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


HOMELESS = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: memory"}]
REFUSED = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
CASES: list[tuple[dict[str, Any], list[dict[str, Any]], Phase, str, str]] = [
    (told(), [], Phase.STARTING, "Planned", ""),
    (told(conditions=REFUSED), [], Phase.RESTARTING, "PodRefused", "quota"),
    (told(), [pod(conditions=HOMELESS)], Phase.RESTARTING, "Unschedulable", "memory"),
    (told(), [pod()], Phase.STARTING, "Planned", ""),
    (told(), [pod(waiting("ContainerCreating"))], Phase.STARTING, "ContainerCreating", ""),
    (told(), [pod(waiting("ErrImageNeverPull"))], Phase.RESTARTING, "ImageMissing", "sha256:c"),
    (told(), [pod(waiting("ImagePullBackOff", "no route"))], Phase.RESTARTING, "ImageMissing", "no route"),
    (told(), [pod(waiting("CreateContainerError", "no device"))], Phase.RESTARTING, "CreateContainerError", "device"),
    (told(), [pod(waiting("CrashLoopBackOff"), last=CRASHED)], Phase.RESTARTING, "Exited", "exit code 7"),
    (told(), [pod(CRASHED)], Phase.RESTARTING, "Exited", "exit code 7"),
    (told(), [pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})], Phase.RESTARTING, "Exited", "memory"),
    (
        told(),
        [pod(phase="Failed", reason="Evicted", message="low on disk")],
        Phase.RESTARTING,
        "Evicted",
        "low on disk",
    ),
    (told(), [pod(RUNNING)], Phase.RUNNING, "", ""),
    (told(0), [], Phase.EXITED, "", "stopped"),
    (told(0), [pod(RUNNING)], Phase.RUNNING, "", ""),
    (told(0), [pod(CRASHED)], Phase.EXITED, "", "stopped"),
]


@pytest.mark.parametrize(("deployment", "pods", "phase", "reason", "detail"), CASES)
def test_each_answer_becomes_a_phase_and_a_word(
    deployment: dict[str, Any], pods: list[dict[str, Any]], phase: Phase, reason: str, detail: str
) -> None:
    seen = findings.instance(deployment, pods)
    assert (seen.phase, seen.reason) == (phase, reason)
    assert detail in seen.detail
    assert (seen.name, seen.core) == ("pump", 1)


def test_a_life_is_a_container_so_each_restart_is_a_new_one() -> None:
    seen = findings.instance(told(), [pod(RUNNING)])
    assert (seen.runtime_id, seen.restarts) == ("0123456789ab", 2)
    assert seen.started_ns == 1_795_341_600 * 10**9
    assert findings.instance(told(), [pod(CRASHED)]).exit_code == 7


def test_a_living_pod_stands_for_the_instance_before_ending_and_ended_ones() -> None:
    ended = pod(phase="Failed", meta={"name": "ended", "creationTimestamp": "9"})
    ending = pod(RUNNING, phase="Running", meta={"name": "ending", "deletionTimestamp": "2", "creationTimestamp": "8"})
    young = pod(waiting("ContainerCreating"), meta={"name": "young"})
    for pods in ([ended, ending, young], [young, ended, ending]):
        chosen = findings.chosen(pods)
        assert chosen is not None
        assert chosen["metadata"]["name"] == "young"
    assert findings.chosen([]) is None


def test_who_edited_an_object_is_named() -> None:
    fields = [
        {"manager": "sluice", "time": "2026-11-22T10:00:00Z"},
        {"manager": "kubectl-edit", "time": "2026-11-22T10:05:00Z"},
        {"manager": "kube-controller-manager", "time": "2026-11-22T10:06:00Z"},
    ]
    assert findings.changed_by({"metadata": {"managedFields": fields}}) == "kubectl-edit"
    assert findings.changed_by({"metadata": {"managedFields": fields[:1]}}) == "somebody"


def test_a_mark_moves_with_what_was_told_and_not_with_the_status() -> None:
    before = told()
    assert findings.mark(before) == findings.mark(told(readyReplicas=1))
    before["metadata"] = before["metadata"] | {"generation": 4}
    assert findings.mark(before) != findings.mark(told())
    service = {"metadata": {"uid": "s", "resourceVersion": "17"}}
    assert findings.mark(service) == "s.17"
