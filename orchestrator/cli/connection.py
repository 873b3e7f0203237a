"""The CLI's line to the orchestrator: address, token, and errors turned into words.

The address comes from ``--server``, ``SLUICE_SERVER`` or the saved log-in; the token from ``SLUICE_TOKEN`` or the saved
log-in (``~/.config/sluice/login.json``, mode 0600).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from httpx import Response
from pydantic import BaseModel

from manifests.errors import DocumentError, Problem, SluiceError, TrustError, UnreachableError
from orchestrator.api.people_shapes import SECOND_FACTOR
from orchestrator.api.schemas import ProblemDetails

DEFAULT_SERVER = "http://127.0.0.1:8080"
TIMEOUT_S = 60.0
Shape = TypeVar("Shape", bound=BaseModel)


class Login(msgspec.Struct, frozen=True):
    """What ``sluice login`` keeps."""

    server: str
    token: str


def login_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "sluice" / "login.json"


def saved_login() -> Login | None:
    try:
        return msgspec.json.decode(login_file().read_bytes(), type=Login)
    except (OSError, msgspec.MsgspecError):
        return None


def save_login(login: Login) -> Path:
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(login))
    return path


class Connection:
    """Blocking calls of the operator API. Raises UnreachableError, TrustError (log-in) or DocumentError."""

    def __init__(self, server: str | None = None, token: str | None = None) -> None:
        login = saved_login()
        self.server = (server or os.environ.get("SLUICE_SERVER") or (login.server if login else DEFAULT_SERVER)).rstrip(
            "/"
        )
        known = login.token if login and login.server == self.server else None
        found = token or os.environ.get("SLUICE_TOKEN") or known
        headers = {"Authorization": f"Bearer {found}"} if found else {}
        verify: Any = os.environ.get("SLUICE_CA_FILE") or True
        self._http = httpx.Client(
            base_url=f"{self.server}/api/v1", headers=headers, timeout=TIMEOUT_S, verify=verify, trust_env=False
        )

    def get(self, path: str, kind: type[Shape], **params: Any) -> Shape:
        return kind.model_validate(self._call("GET", path, params=_given(params)).json())

    def get_list(self, path: str, kind: type[Shape], **params: Any) -> list[Shape]:
        return [kind.model_validate(item) for item in self._call("GET", path, params=_given(params)).json()]

    def post(self, path: str, body: BaseModel, kind: type[Shape], *, timeout_s: float = TIMEOUT_S) -> Shape:
        data = body.model_dump(mode="json", by_alias=True)
        return kind.model_validate(self._call("POST", path, json=data, timeout=timeout_s).json())

    def put(self, path: str, body: BaseModel, kind: type[Shape]) -> Shape:
        data = body.model_dump(mode="json", by_alias=True)
        return kind.model_validate(self._call("PUT", path, json=data).json())

    def do(self, method: str, path: str, body: BaseModel | None = None) -> None:
        """A call that answers nothing."""
        data = None if body is None else body.model_dump(mode="json", by_alias=True)
        self._call(method, path, json=data)

    def stream(self, path: str, body: BaseModel, *, timeout_s: float) -> Iterator[tuple[str, str]]:
        """Post, and read server-sent events as they come: (event, data)."""
        data = body.model_dump(mode="json", by_alias=True)
        headers = {"Accept": "text/event-stream"}
        try:
            with self._http.stream("POST", path, json=data, headers=headers, timeout=timeout_s) as response:
                if not response.is_success:
                    response.read()
                    self._check(response)
                event = ""
                for line in response.iter_lines():
                    if line.startswith("event: "):
                        event = line[7:]
                    elif line.startswith("data: "):
                        yield event, line[6:]
        except httpx.HTTPError as error:
            raise UnreachableError(f"the line to {self.server} was cut: {error}", where=f"POST {path}") from error

    def has_blob(self, digest: str) -> bool:
        response = self._send("HEAD", f"/blobs/{digest.replace(':', '/')}")
        if response.status_code == 404:
            return False
        self._check(response)
        return True

    def get_blob(self, digest: str, limit: int) -> Iterator[bytes]:
        """A blob as it comes; raises TrustError when there is more than ``limit`` bytes of it."""
        size = 0
        for chunk in self.download(f"/blobs/{digest.replace(':', '/')}"):
            size += len(chunk)
            if size > limit:
                raise TrustError(f"more than {limit} bytes", kind="oversized", where=digest)
            yield chunk

    def download(self, path: str, **params: Any) -> Iterator[bytes]:
        """A long answer as it comes."""
        try:
            with self._http.stream("GET", path, params=_given(params), timeout=600.0) as response:
                if not response.is_success:
                    response.read()
                    self._check(response)
                yield from response.iter_bytes(1 << 20)
        except httpx.HTTPError as error:
            raise UnreachableError(f"the line to {self.server} was cut: {error}", where=f"GET {path}") from error

    def put_blob(self, digest: str, chunks: Iterator[bytes], size: int) -> None:
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self._call("PUT", f"/blobs/{digest.replace(':', '/')}", content=chunks, headers=headers, timeout=600.0)

    def _call(self, method: str, path: str, **options: Any) -> Response:
        response = self._send(method, path, **options)
        self._check(response)
        return response

    def _send(self, method: str, path: str, **options: Any) -> Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no answer from {self.server}: {error}",
                where=f"{method} {path}",
                remedy="is the orchestrator running? choose another with --server or sluice login",
            ) from error

    def _check(self, response: Response) -> None:
        if response.is_success:
            return
        try:
            problem = ProblemDetails.model_validate(response.json())
        except ValueError:
            problem = ProblemDetails(title=response.reason_phrase or "error", status=response.status_code)
        if problem.errors:
            raise DocumentError([Problem(e.where, e.path, e.what, e.hint) for e in problem.errors])
        what = problem.detail or problem.title
        if response.status_code in {401, 403}:
            kind = "second-factor" if problem.type == SECOND_FACTOR else "log-in"
            raise TrustError(what, kind=kind, where=self.server, remedy=problem.remedy or "run: sluice login")
        raise SluiceError(what, where=f"{self.server} ({response.status_code})", remedy=problem.remedy)


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}
