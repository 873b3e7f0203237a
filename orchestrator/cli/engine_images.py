"""Takes images out of the local container engine, over its own socket, for ``sluice release build``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx

from manifests.errors import MachineError

DEFAULT_SOCKET = "/var/run/docker.sock"
TIMEOUT_S = 300.0


def engine_socket() -> str:
    """The engine's Unix socket: ``DOCKER_HOST`` (unix:// only) or the usual place."""
    host = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT_SOCKET}")
    if not host.startswith("unix://"):
        raise MachineError(f"cannot build from the engine at {host}", remedy="set DOCKER_HOST to a unix:// socket")
    return host.removeprefix("unix://")


def engine_answers() -> bool:
    try:
        with _client() as client:
            return client.get("/_ping", timeout=5.0).is_success
    except (httpx.HTTPError, MachineError):
        return False


def save_image(reference: str, target: Path, progress: Callable[[int], None] = lambda count: None) -> None:
    """Write the engine's image archive of ``reference`` to ``target``; ``progress`` gets the bytes of each piece.

    Raises MachineError when the engine does not answer or has no such image.
    """
    try:
        with _client() as client, client.stream("GET", f"/images/{reference}/get") as answer:
            if answer.status_code == 404:
                what = f"the engine has no image {reference}"
                raise MachineError(what, remedy="build it first: ./run images")
            answer.raise_for_status()
            with target.open("wb") as file:
                for chunk in answer.iter_bytes(1 << 20):
                    file.write(chunk)
                    progress(len(chunk))
    except httpx.HTTPError as error:
        remedy = "start the container engine, or build for the process runtime: --platform process"
        raise MachineError(f"the container engine does not answer: {error}", where=reference, remedy=remedy) from error


def _client() -> httpx.Client:
    transport = httpx.HTTPTransport(uds=engine_socket())
    return httpx.Client(transport=transport, base_url="http://engine", timeout=TIMEOUT_S)
