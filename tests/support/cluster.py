"""A Kubernetes cluster for tests: whatever ``KUBECONFIG`` names, used with the shipped role and nothing more.

The administrator's credentials make the namespace and apply the shipped role, as an installer would; the agent under
test gets a token of the shipped service account, which has just this role. Images reach the node by
``SLUICE_KUBE_LOAD``, a command that takes an image archive's path; without it, by the engine whose socket lies beside
the kubeconfig.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import yaml

from agent.runtimes.kubernetes.client import Cluster
from agent.runtimes.kubernetes.objects import Place
from agent.runtimes.kubernetes.runtime import KubernetesRuntime
from tests.support.link import Link

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "manifests" / "kubernetes" / "agent"
ACCOUNT = "sluice-agent"


def missing() -> str:
    """Why there is no cluster to test with; empty when there is one."""
    named = os.environ.get("KUBECONFIG", "")
    if not named:
        return "KUBECONFIG names no cluster"
    if not Path(named).is_file():
        return f"KUBECONFIG names {named}, which is not there"
    return "" if _load_command() else "SLUICE_KUBE_LOAD says no command that brings an image archive to the node"


def _load_command() -> list[str]:
    said = os.environ.get("SLUICE_KUBE_LOAD", "")
    engine = Path(os.environ["KUBECONFIG"]).parent / "docker.sock"
    if not said and engine.exists():
        return ["docker", "-H", f"unix://{engine}", "load", "-q", "-i"]
    return said.split()


def kubectl(*arguments: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def load_image(archive: Path) -> None:
    subprocess.run([*_load_command(), str(archive)], check=True, capture_output=True)


def built_image(name: str) -> str:
    """The digest of that recipe's image as this checkout makes it: an older one would test yesterday's code, and a name
    may be another checkout's by now."""
    from workloads.images.build import build
    from workloads.images.recipes import named

    (built,) = build([named(name)])
    return built.digest


def saved_image(name: str, folder: Path, *, under: str = "") -> Path:
    """An archive of that recipe's image, which knows it by digest, or by the name ``under``."""
    digest, archive = built_image(name), folder / f"{name}.tar"
    if under:
        subprocess.run(["docker", "tag", digest, under], check=True)
    subprocess.run(["docker", "save", "-o", str(archive), under or digest], check=True)
    return archive


def on_a_line(kubeconfig: Path) -> Link:
    """All that whoever uses this kubeconfig has to the API server, from now on; in the hands of the test."""
    said = yaml.safe_load(kubeconfig.read_text())
    server = said["clusters"][0]["cluster"]
    address = urlsplit(server["server"])
    line = Link((str(address.hostname), address.port or 443))
    server["server"] = f"https://127.0.0.1:{line.port}"
    server["tls-server-name"] = str(address.hostname)
    kubeconfig.write_text(yaml.safe_dump(said))
    return line


def _authority(url: str) -> bytes:
    """The last certificate that a server shows, in PEM; trusted as blindly as the administrator's kubeconfig says."""
    address = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    line = socket.create_connection((str(address.hostname), address.port or 443), timeout=5)
    with context.wrap_socket(line) as wrapped:
        chain = wrapped._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # public only from 3.13 on
    return str(chain[-1].public_bytes()).encode()


@contextmanager
def _alone(users: IO[str]) -> Iterator[None]:
    """Given up before it is asked for alone: two that hold it and want all of it would wait for each other."""
    fcntl.flock(users, fcntl.LOCK_UN)
    fcntl.flock(users, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(users, fcntl.LOCK_SH)


def _users() -> Path:
    """Held shared by every namespace in use, and alone by who disturbs all of them."""
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    return place / "cluster.users"


class ClusterNamespace:
    """One site's namespace, as an installer leaves it; ``close`` takes it away."""

    def __init__(self, folder: Path, site: str) -> None:
        self.folder = folder
        self.site = site
        self.name = f"sluice-{site}"
        self.node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        # A cluster without a network of its own for pods runs them on the machine's.
        self.host_network = not kubectl(
            "get", "pods", "-A", "-l", "k8s-app in (kube-dns,kube-proxy)", "-o", "name", check=False
        )
        self._users = _users().open("a")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        kubectl("create", "namespace", self.name)
        for shipped in ("role.yaml", "binding.yaml"):
            kubectl("apply", "-n", self.name, "-f", str(SHIPPED / shipped))
        self.kubeconfig = self._kubeconfig()

    def _kubeconfig(self) -> Path:
        """The cluster's address with a token of the shipped service account, and with nothing of the administrator."""
        said = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "yaml"))
        asked = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{ACCOUNT}/token"
        token = json.loads(kubectl("create", "--raw", path, "-f", "-", stdin=asked))["status"]["token"]
        (user,) = said["users"]
        user["user"] = {"token": token}
        server = said["clusters"][0]["cluster"]
        if server.pop("insecure-skip-tls-verify", False):  # the agent is to check whom it talks to
            server["certificate-authority-data"] = base64.b64encode(_authority(server["server"])).decode()
        made = self.folder / "kubeconfig"
        made.touch(mode=0o600)
        made.write_text(yaml.safe_dump(said))
        return made

    def runtime(self, state: Path, *, node: str = "edge", **place: Any) -> KubernetesRuntime:
        where = Place(
            site=self.site,
            node=node,
            namespace=self.name,
            runs=PurePosixPath(state / "run"),
            kept=PurePosixPath(state / "kept"),
            machine=self.node,
            host_network=self.host_network,
            **place,
        )
        return KubernetesRuntime(state, Cluster(self.kubeconfig), where, image_folder=state / "images")

    def settings(self) -> dict[str, Any]:
        """``runtime`` of an agent.yaml."""
        return {
            "kind": "kubernetes",
            "kubeconfig": str(self.kubeconfig),
            "machine": self.node,
            "hostNetwork": self.host_network,
        }

    def get(self, kind: str, name: str = "") -> Any:
        return json.loads(kubectl("get", kind, *([name] if name else []), "-n", self.name, "-o", "json"))

    def pods(self, instance: str) -> list[Any]:
        found = kubectl("get", "pods", "-n", self.name, "-l", f"sluice.instance={instance}", "-o", "json")
        return list(json.loads(found)["items"])

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{kubectl('get', 'all', '-n', self.name)}"
            time.sleep(0.1)

    def close(self) -> None:
        kubectl("delete", "namespace", self.name, "--wait=false", check=False)
        self._users.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other test uses the cluster."""
        with _alone(self._users):
            yield

    @contextmanager
    def cordoned(self, *, drained: bool = False) -> Iterator[None]:
        """No new pods on its node; ``drained``: and none of this namespace's, as before a node is maintained."""
        with self.alone():
            kubectl("cordon", self.node)
            try:
                if drained:
                    mine = f"--pod-selector=sluice.site in ({self._sites()})"
                    kubectl("drain", self.node, mine, "--delete-emptydir-data", "--timeout=90s")
                yield
            finally:
                kubectl("uncordon", self.node)

    def _sites(self) -> str:
        return ",".join({pod["metadata"]["labels"]["sluice.site"] for pod in self.get("pods")["items"]})
