"""Who this node is: its key and certificate, what it pinned at enrolment, and where the orchestrator is.

``<state>/identity`` holds ``node.pem`` (private key and certificate chain in one file, 0600, so that a renewal
replaces both in one rename), ``server-ca.pem``, ``catalog.root.json``, ``director.root.json`` and ``identity.json``.
Made by ``agent.enrol``; read at every start. It refuses to be read half: a missing part means "not enrolled".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from agent.folders import discarded_on_error, disk_errors, new_folder, swap_folder, write_file
from manifests import pki
from manifests.errors import MachineError, TrustError

FOLDER_NAME = "identity"


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    site: str
    node: str


@dataclass(frozen=True, slots=True)
class Identity:
    """``node_pem`` and ``server_ca_pem`` are files, as TLS wants them; the roots are the pinned ``root.json`` bytes."""

    folder: Path
    url: str
    site: str
    node: str
    catalog_root: bytes
    director_root: bytes

    @property
    def node_pem(self) -> Path:
        return self.folder / "node.pem"

    @property
    def server_ca_pem(self) -> Path:
        return self.folder / "server-ca.pem"

    def not_after(self) -> datetime:
        """When the certificate ends. Raises MachineError, TrustError."""
        return self._times()[1]

    def renewal_due(self, now: datetime) -> bool:
        """From day 30 of 90: a site may then be away for 60 days without harm."""
        return now >= self._times()[0] + timedelta(days=pki.RENEW_AFTER_DAYS)

    def _times(self) -> tuple[datetime, datetime]:
        return _read_times(self.node_pem)


def read_certificate_end(node_pem: Path) -> datetime:
    """``not_after`` of a ``node.pem``. Raises MachineError, TrustError."""
    return _read_times(node_pem)[1]


def _read_times(node_pem: Path) -> tuple[datetime, datetime]:
    with disk_errors("cannot read the certificate", node_pem):
        data = node_pem.read_bytes()
    return pki.certificate_times(data[data.find(b"-----BEGIN CERTIFICATE-----") :])


def is_enrolled(state_folder: Path) -> bool:
    return (state_folder / FOLDER_NAME / "identity.json").exists()


def load_identity(state_folder: Path) -> Identity:
    """Raises MachineError when this node is not enrolled or a part cannot be read, TrustError when one is damaged."""
    folder = state_folder / FOLDER_NAME
    remedy = "enrol it with a token: sluice agent enrol --url URL --token TOKEN"
    if not is_enrolled(state_folder):
        raise MachineError("this node is not enrolled", where=str(state_folder), remedy=remedy)
    with disk_errors("cannot read this node's identity", folder):
        try:
            facts = msgspec.json.decode((folder / "identity.json").read_bytes(), type=_Facts)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise TrustError(
                f"damaged: {error}", kind="bad-identity", where=str(folder / "identity.json"), remedy=remedy
            ) from error
        return Identity(
            folder=folder,
            url=facts.url,
            site=facts.site,
            node=facts.node,
            catalog_root=(folder / "catalog.root.json").read_bytes(),
            director_root=(folder / "director.root.json").read_bytes(),
        )


def save_identity(
    state_folder: Path,
    *,
    url: str,
    site: str,
    node: str,
    key_pem: bytes,
    chain_pem: str,
    server_ca_pem: str,
    catalog_root: bytes,
    director_root: bytes,
) -> Identity:
    """Write all of it, in one step. Raises MachineError."""
    place = state_folder / FOLDER_NAME
    with disk_errors("cannot write this node's identity", place):
        state_folder.mkdir(parents=True, exist_ok=True)
        with discarded_on_error(new_folder(place)) as folder:
            write_file(folder / "node.pem", key_pem + chain_pem.encode("ascii"), mode=0o600)
            write_file(folder / "server-ca.pem", server_ca_pem.encode("ascii"))
            write_file(folder / "catalog.root.json", catalog_root)
            write_file(folder / "director.root.json", director_root)
            facts = _Facts(url=url, site=site, node=node)
            write_file(folder / "identity.json", msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
            swap_folder(folder, place)
    return load_identity(state_folder)


def replace_certificate(identity: Identity, *, key_pem: bytes, chain_pem: str) -> None:
    """A renewal: key and chain together, in one rename. Raises MachineError."""
    with disk_errors("cannot write the new certificate", identity.node_pem):
        write_file(identity.node_pem, key_pem + chain_pem.encode("ascii"), mode=0o600)
