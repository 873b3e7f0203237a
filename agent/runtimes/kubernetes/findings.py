"""What the cluster's answers say of one instance. Pure; ``runtime`` asks.

Kubernetes' own words become the second word of a status where they are good ones (``Unschedulable``, ``Evicted``);
where they name a symptom (``ErrImageNeverPull``), ours says what is missing. It decides nothing about lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.runtimes.base import ObservedInstance, Phase
from agent.runtimes.kubernetes.objects import LABEL, MANAGER

Found = Mapping[str, Any]

_NO_IMAGE = ("ErrImageNeverPull", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ImageInspectError")
_COMING_UP = ("ContainerCreating", "PodInitializing", "")
_CRASHING = "CrashLoopBackOff"


def instance(deployment: Found, pods: Sequence[Found], drift: str = "") -> ObservedInstance:
    """One instance, from its Deployment and all pods that carry its name."""
    meta, notes = deployment["metadata"], deployment["metadata"].get("annotations") or {}
    pod = chosen(pods)
    seen = _seen(deployment, pod)
    core = notes.get(LABEL + "core", "")
    return ObservedInstance(
        name=meta["labels"][LABEL + "instance"],
        release_digest=notes.get(LABEL + "release-digest", ""),
        config_digest=notes.get(LABEL + "config-digest", ""),
        workload=notes.get(LABEL + "workload", ""),
        version=notes.get(LABEL + "version", ""),
        generation=int(notes.get(LABEL + "generation") or 0),
        core=int(core) if core else None,
        note=notes.get(LABEL + "note", ""),
        drift=drift,
        **seen,
    )


def chosen(pods: Sequence[Found]) -> Found | None:
    """The pod that stands for the instance: one that lives before one that ends before one that has ended."""

    def rank(pod: Found) -> tuple[bool, bool, str]:
        ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
        return (not ended, "deletionTimestamp" not in pod["metadata"], pod["metadata"].get("creationTimestamp", ""))

    return max(pods, key=rank, default=None)


def ended(pod: Found) -> bool:
    """All its containers have ended, as far as its kubelet has told."""
    states = [one.get("state") or {} for one in pod.get("status", {}).get("containerStatuses") or ()]
    return bool(states) and all("terminated" in state for state in states)


def _seen(deployment: Found, pod: Found | None) -> dict[str, Any]:
    """Phase, life and words, as arguments of ObservedInstance."""
    meta = deployment["metadata"]
    stopped = deployment["spec"].get("replicas", 1) == 0
    if stopped and pod is not None and ended(pod):
        pod = None
    if pod is None:
        life = f"{meta.get('uid', '')[:8]}.{meta.get('generation', 0)}"
        if stopped:
            return {"phase": Phase.EXITED, "runtime_id": life, "detail": "stopped"}
        refused = _condition(deployment, "ReplicaFailure", "True")
        if refused:
            return _not_running(Phase.RESTARTING, life, "PodRefused", refused.get("message", ""))
        return _not_running(Phase.STARTING, life, "Planned", "")
    status = pod.get("status", {})
    life = pod["metadata"].get("uid", "")[:12]
    container = next(iter(status.get("containerStatuses") or ()), None)
    if status.get("phase") in ("Failed", "Succeeded") and not (container and container["state"].get("terminated")):
        return _not_running(Phase.RESTARTING, life, status.get("reason") or "PodEnded", status.get("message", ""))
    if container is None:
        homeless = _condition(pod, "PodScheduled", "False")
        if homeless:
            return _not_running(Phase.RESTARTING, life, homeless.get("reason", ""), homeless.get("message", ""))
        return _not_running(Phase.STARTING, life, "Planned", "")
    return _container(container, life)


def _container(container: Found, life: str) -> dict[str, Any]:
    life = container.get("containerID", "").rpartition("//")[2][:12] or life
    restarts = int(container.get("restartCount", 0))
    state = container.get("state") or {}
    if "running" in state:
        started_ns = _nanoseconds(state["running"].get("startedAt", ""))
        return {"phase": Phase.RUNNING, "runtime_id": life, "started_ns": started_ns, "restarts": restarts}
    waiting = state.get("waiting") or {}
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if reason in _NO_IMAGE:
        image = container.get("image", "")
        return _not_running(Phase.RESTARTING, life, "ImageMissing", f"the node has no image {image}: {said or reason}")
    if ended and (reason == _CRASHING or "terminated" in state):
        code = ended.get("exitCode")
        detail = "killed: out of memory" if ended.get("reason") == "OOMKilled" else f"exit code {code}"
        words = _not_running(Phase.RESTARTING, life, "Exited", detail)
        return words | {"exit_code": code, "restarts": restarts, "started_ns": _nanoseconds(ended.get("startedAt", ""))}
    if reason in _COMING_UP:
        return _not_running(Phase.STARTING, life, reason or "Planned", said) | {"restarts": restarts}
    return _not_running(Phase.RESTARTING, life, reason, said) | {"restarts": restarts}


def _not_running(phase: Phase, life: str, reason: str, detail: str) -> dict[str, Any]:
    return {"phase": phase, "runtime_id": life, "reason": reason, "detail": " ".join(detail.split())[:400]}


def _condition(found: Found, kind: str, status: str) -> Found | None:
    conditions = found.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == status), None)


def changed_by(found: Found) -> str:
    """Who wrote an object last, other than this agent and the cluster's own controllers; "somebody" when unsaid."""
    entries = [
        entry
        for entry in found["metadata"].get("managedFields") or ()
        if entry.get("manager") not in (MANAGER, "kube-controller-manager", "k3s")
    ]
    latest = max(entries, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(latest.get("manager") or "somebody") if latest else "somebody"


def mark(found: Found) -> str:
    """Changes exactly when what was told of an object does; a Service counts no generations, so any write to it."""
    meta = found["metadata"]
    return f"{meta.get('uid', '')}.{meta.get('generation') or meta.get('resourceVersion', '')}"


def _nanoseconds(text: str) -> int:
    """``2026-11-22T16:51:35Z`` -> ns since the epoch; 0 when unsaid."""
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return 0
