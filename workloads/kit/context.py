"""Who this instance is: what the agent wrote into ``$SLUICE_RUN/context.json``.

Read once at start by ``service``. Refuses to start without it: a workload that does not know its site would publish
under a wrong name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests.bus import SOCKET_NAME
from manifests.errors import DocumentError, MachineError, Problem
from manifests.model import CONTEXT_NAME, RUN_VARIABLE, RunContext

MAX_CONTEXT_BYTES = 16 << 20
# The name of a secret in a configuration; empty: none.
SecretName = Annotated[str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")]


def run_folder() -> Path:
    """Raises MachineError when the agent did not start this process."""
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        raise MachineError(
            f"{RUN_VARIABLE} is not set",
            remedy="workloads are started by the agent; to try one by hand, point it at a folder with a context.json",
        )
    return Path(folder)


def load_context(folder: Path) -> RunContext:
    """Raises MachineError when it cannot be read, DocumentError when it is not a RunContext."""
    path = folder / CONTEXT_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read the run context: {error}", where=str(path)) from error
    if len(data) > MAX_CONTEXT_BYTES:
        raise DocumentError([Problem(str(path), "", f"{len(data)} bytes; at most {MAX_CONTEXT_BYTES} are allowed")])
    try:
        return msgspec.json.decode(data, type=RunContext)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DocumentError([Problem(where=str(path), path="", what=str(error))]) from error


def bus_socket(folder: Path) -> Path:
    return folder / SOCKET_NAME


def address(context: RunContext, host: str) -> str:
    """Where ``host`` of a configuration is reached; the runtime's name service knows what ``hosts`` does not."""
    return context.hosts.get(host, host)


def read_secret(context: RunContext, name: str) -> str:
    """The secret of that name, as it is now: read it anew for each connection. Raises MachineError.

    It must not be kept in a configuration, a log line or an error's text.
    """
    if not context.secrets:
        what, remedy = f"this instance has no secret {name!r}", "sluice secret set SITE INSTANCE NAME"
        raise MachineError(what, where=context.instance, remedy=remedy)
    path = Path(context.secrets) / name
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise MachineError(f"cannot read the secret: {why}", where=str(path)) from None


def topic(context: RunContext, *levels: str) -> str:
    """A Unified Namespace topic of this site."""
    return "/".join((context.enterprise, context.site, *levels))
