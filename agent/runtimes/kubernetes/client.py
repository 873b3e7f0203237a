"""The API server as this agent uses it: a few verbs on plain objects. The only module that knows ``kubernetes``.

It takes credentials, certificates and token rotation from that package and leaves its thousand models alone: what we
say is rendered by ``objects``, and what we read is read by name. Every answer but success becomes one of our errors:

    UnreachableError     no answer, or "later": weather
    MachineError         refused: a broken kubeconfig, no permission, an object it does not take
    |- MissingError      no such object
    |- ConflictError     somebody wrote it since
    `- GoneError         what was asked to resume from is forgotten: list again
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client as api
from kubernetes import config as settings

from agent.runtimes.kubernetes.objects import MANAGER, Object
from manifests.errors import MachineError, UnreachableError

CALL_TIMEOUT_S = (5.0, 15.0)  # to connect, to answer
WATCH_S = 45  # the server ends a watch by then; a line that is silent for longer is dead
_WATCH_TIMEOUT_S = (5.0, WATCH_S + 5.0)
_MAX_LINE = 4 << 20  # bytes of one event; an object may be 1.5 MB
_KEPT_TEXT = 300
_WEATHER = (408, 429, 500, 502, 503, 504)
_REMEDY_AWAY = "workloads run on; it is asked again"


class MissingError(MachineError):
    """There is no such object."""


class ConflictError(MachineError):
    """Somebody wrote the object since it was read."""


class GoneError(MachineError):
    """The version to resume from is no longer known."""


class Cluster:
    """One API server. ``kubeconfig`` None: the cluster that this process is a pod of. Talks to nobody before a call."""

    def __init__(self, kubeconfig: Path | None, *, context: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._lock = threading.Lock()
        self._api: api.ApiClient | None = None

    @property
    def where(self) -> str:
        """The server's address once known, else where it would be read from."""
        if self._api is not None:
            return str(self._api.configuration.host)
        return str(self._kubeconfig or "the cluster of this pod")

    # ------------------------------------------------------------ verbs

    def get(self, path: str, **query: str) -> Object:
        return self._object("GET", path, query)

    def text(self, path: str, **query: str) -> str:
        return self._call("GET", path, query).decode("utf-8", "replace")

    def apply(self, path: str, wanted: Object) -> Object:
        """Server-side apply under our own field manager; fields that somebody else took are taken back."""
        query = {"fieldManager": MANAGER, "force": "true"}
        return self._object("PATCH", path, query, wanted, "application/apply-patch+yaml")  # JSON is YAML

    def replace(self, path: str, wanted: Object) -> Object:
        """The whole object; ``wanted`` carries the version it replaces. Raises ConflictError when that is outdated."""
        return self._object("PUT", path, {"fieldManager": MANAGER}, wanted)

    def change(self, path: str, part: Object) -> Object:
        return self._object("PATCH", path, {"fieldManager": MANAGER}, part, "application/merge-patch+json")

    def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """Harmless when there is none; what belongs to it goes too, in the background."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        with contextlib.suppress(MissingError):
            self._call("DELETE", path, {}, options)

    def watch(self, path: str, version: str, **query: str) -> Iterator[Object]:
        """Events after ``version`` until the server ends the watch. Raises GoneError when that is too long ago."""
        asked = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        response = self._send("GET", path, query | asked | {"timeoutSeconds": str(WATCH_S)}, timeout=_WATCH_TIMEOUT_S)
        rest = b""
        try:
            with _reached(self.where):
                for chunk in response.stream(1 << 16):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from (json.loads(line) for line in lines if line.strip())
                    if len(rest) > _MAX_LINE:
                        raise MachineError("an event without an end", where=path)
        except ValueError as error:
            raise UnreachableError(f"the API server's answer cannot be read: {error}", where=self.where) from error
        finally:
            response.close()

    # ------------------------------------------------------------ calls

    def _object(
        self, verb: str, path: str, query: Mapping[str, str], body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        data = self._call(verb, path, query, body, kind)
        try:
            found: Object = json.loads(data)
        except ValueError as error:
            raise UnreachableError(f"the API server's answer cannot be read: {error}", where=self.where) from error
        return found

    def _call(
        self, verb: str, path: str, query: Mapping[str, str], body: Object | None = None, kind: str = "application/json"
    ) -> bytes:
        response = self._send(verb, path, query, body, kind)
        try:
            with _reached(self.where):
                return bytes(response.read())
        finally:
            response.release_conn()

    def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        kind: str = "application/json",
        timeout: tuple[float, float] = CALL_TIMEOUT_S,
    ) -> Any:
        """The open response of a call that succeeded."""
        connected = self._connected()
        headers = {"Accept": "application/json", "User-Agent": "sluice-agent"}
        if body is not None:
            headers["Content-Type"] = kind
        url = f"{connected.configuration.host}{path}?{urlencode(query)}"
        with _reached(self.where):
            connected.update_params_for_auth(headers, [], ["BearerToken"], path, verb, None)
            data = None if body is None else json.dumps(body).encode()
            pool = connected.rest_client.pool_manager
            response = pool.request(
                verb,
                url,
                body=data,
                headers=headers,
                preload_content=False,
                timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            )
        if response.status >= 400:
            self._refused(verb, path, response)
        return response

    def _refused(self, verb: str, path: str, response: Any) -> None:
        with _reached(self.where):
            data = response.read(1 << 16)
        response.release_conn()
        try:
            said = str(json.loads(data).get("message", ""))
        except (ValueError, AttributeError):
            said = data[:_KEPT_TEXT].decode("utf-8", "replace")
        said = said[:_KEPT_TEXT] or str(response.reason)
        match response.status:
            case 401:
                self._api = None  # credentials may have been replaced meanwhile: read them again
                raise MachineError(
                    "the API server does not know this agent (Unauthorized)",
                    where=self.where,
                    remedy="are the credentials of its kubeconfig still valid?",
                )
            case 403:
                raise MachineError(
                    f"forbidden: {said}",
                    where=self.where,
                    remedy="apply manifests/kubernetes/agent, which holds the role this agent needs",
                )
            case 404:
                raise MissingError(said, where=path)
            case 409:
                raise ConflictError(said, where=path)
            case 410:
                raise GoneError(said, where=path)
            case status if status in _WEATHER:
                raise UnreachableError(
                    f"the API server is not ready: {said} ({status})", where=self.where, remedy=_REMEDY_AWAY
                )
            case status:
                raise MachineError(f"the API server refused to {verb}: {said} ({status})", where=path)

    def _connected(self) -> api.ApiClient:
        with self._lock:
            if self._api is None:
                self._api = api.ApiClient(self._configuration())
            return self._api

    def _configuration(self) -> api.Configuration:
        """Raises MachineError when the kubeconfig cannot be used."""
        configuration = api.Configuration()
        configuration.retries = False  # the loop tries again, and says so
        configuration.connection_pool_maxsize = 8
        try:
            if self._kubeconfig is None:
                settings.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # it ships no types
            else:
                settings.load_kube_config(  # type: ignore[no-untyped-call]  # it ships no types
                    config_file=str(self._kubeconfig),
                    context=self._context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (settings.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as error:
            said = str(error).splitlines()[0][:_KEPT_TEXT] if str(error) else type(error).__name__
            raise MachineError(
                f"the kubeconfig cannot be used: {said}",
                where=str(self._kubeconfig or "the cluster of this pod"),
                remedy="correct `runtime.kubeconfig` in agent.yaml, or the file",
            ) from error
        return configuration


@contextlib.contextmanager
def _reached(where: str) -> Iterator[None]:
    """What the line does becomes UnreachableError; a certificate that is not trusted is no weather."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        said = str(error).rpartition(": ")[2][:_KEPT_TEXT] or type(error).__name__
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in (error, error.__cause__, *error.args)):
            raise MachineError(
                f"the API server's certificate is not trusted: {said}",
                where=where,
                remedy="does the kubeconfig hold this cluster's certificate authority?",
            ) from error
        raise UnreachableError(f"the API server does not answer: {said}", where=where, remedy=_REMEDY_AWAY) from error
