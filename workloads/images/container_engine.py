"""The few questions this package asks of a container engine, through its own command line.

Not the Docker SDK: only the agent's runtime may import that, and building needs no more than this.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from workloads.images import ImageError


@dataclass(frozen=True, slots=True)
class Stored:
    """An image in the engine: its digest (of the configuration), size in bytes and labels."""

    digest: str
    size: int
    labels: Mapping[str, str]


def architecture() -> str:
    """The engine's architecture, such as amd64. Raises ImageError when no engine answers."""
    done = _docker("version", "--format", "{{.Server.Arch}}")
    if done.returncode or not done.stdout.strip():
        raise ImageError(
            "no container engine answers",
            "docker version",
            "start the engine (`systemctl start docker`) or run `./run images`, which starts one as root",
        )
    return done.stdout.strip()


def inspect(reference: str) -> Stored | None:
    """What the engine holds under that name; None when nothing."""
    done = _docker("image", "inspect", reference)
    if done.returncode:
        return None
    found = json.loads(done.stdout)[0]
    return Stored(found["Id"], int(found["Size"]), found["Config"].get("Labels") or {})


def build(context: Path, reference: str, labels: Mapping[str, str], arguments: Mapping[str, str]) -> Stored:
    """Build a context's Dockerfile, pulling nothing. Raises ImageError with the end of the log."""
    flags = [part for name, value in labels.items() for part in ("--label", f"{name}={value}")]
    flags += [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    done = _docker("build", "--tag", reference, *flags, str(context))
    stored = inspect(reference) if done.returncode == 0 else None
    if stored is None:
        log = (done.stdout + done.stderr).strip()[-2000:]
        raise ImageError(f"docker build failed:\n{log}", reference, f"see {context / 'Dockerfile'}")
    return stored


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    if which("docker") is None:
        raise ImageError("docker is not installed", "PATH", "run `./run setup images`")
    return subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
