"""How a node becomes part of a site, and stays: the one-time token, and the renewal of its certificate.

``sluice agent enrol`` calls ``enrol``; the loop calls ``renew`` when it is due. The private key is made here and never
leaves. The secret is sent only over TLS pinned to the authority inside the token, and nothing is written before the
whole answer was checked. Enrolling again is for the same site only: whoever holds the state folder's workloads must
not be handed to another site by a wrong token. Nothing here touches a workload.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from agent.client import OrchestratorClient, enrol_call
from agent.folders import disk_errors
from agent.identity import Identity, is_enrolled, load_identity, replace_certificate, save_identity
from agent.secrets import opening_key
from manifests import keys, pki
from manifests.errors import MachineError, TrustError
from manifests.messages import EnrolRequest, RenewRequest
from manifests.signing import verify_root


def enrol(url: str, token: str, state_folder: Path, node: str = "", *, force: bool = False) -> Identity:
    """Trade the token for a certificate and the pinned roots. ``url`` and ``node`` default to the token's.

    Raises TrustError (``bad-token``, ``other-site``, ``bad-reply``, and the client's kinds), MachineError (enrolled
    already, disk), UnreachableError.
    """
    ticket = pki.EnrolmentToken.decode(token)
    node = node or ticket.node
    if node != ticket.node:
        raise TrustError(f"the token is for node {ticket.node!r}, not {node!r}", kind="bad-token")
    if is_enrolled(state_folder):
        held = load_identity(state_folder)
        if held.site != ticket.site:
            raise TrustError(
                f"this node belongs to site {held.site!r}, the token is for {ticket.site!r}",
                kind="other-site",
                where=str(state_folder),
                remedy="use a token for its own site, or another state folder",
            )
        if not force:
            raise MachineError(
                f"this node is enrolled already, as {held.site}/{held.node}",
                where=str(state_folder),
                remedy="to enrol it again, for the same site, add --force; workloads keep running",
            )
    key = keys.generate_tls_key()
    url = url or ticket.url
    reply = enrol_call(
        url, ticket.server_ca_pem, EnrolRequest(secret=ticket.secret, node=node, csr_pem=pki.make_csr(key))
    )
    _check_chain(reply.chain_pem, key, ticket.site, node)
    for name, data, digest in (
        ("catalog root", reply.catalog_root, ticket.catalog_root_sha256),
        ("director root", reply.director_root, ticket.director_root_sha256),
    ):
        if hashlib.sha256(data).hexdigest() != digest:
            raise TrustError(f"the {name} is not the one pinned in the token", kind="bad-reply", where=url)
        verify_root(data)
    if reply.site != ticket.site or reply.node != node:
        raise TrustError(f"enrolled as {reply.site}/{reply.node}, which was not asked for", kind="bad-reply", where=url)
    opening_key(state_folder)
    return save_identity(
        state_folder,
        url=url,
        site=ticket.site,
        node=node,
        key_pem=keys.key_pem(key),
        chain_pem=reply.chain_pem,
        # The token's, not the reply's: what is pinned came out of band.
        server_ca_pem=ticket.server_ca_pem,
        catalog_root=reply.catalog_root,
        director_root=reply.director_root,
    )


def renew(client: OrchestratorClient, identity: Identity) -> None:
    """A new key and certificate over the line the old one still opens; the client uses them from the next call on.

    Raises TrustError, UnreachableError, MachineError; the old certificate stays in use then.
    """
    key = keys.generate_tls_key()
    reply = client.renew(RenewRequest(csr_pem=pki.make_csr(key)))
    _check_chain(reply.chain_pem, key, identity.site, identity.node)
    replace_certificate(identity, key_pem=keys.key_pem(key), chain_pem=reply.chain_pem)
    client.reload()


def renew_late(client: OrchestratorClient, identity: Identity) -> None:
    """The certificate has ended: the old key speaks for a new one, on the line that needs none.

    Raises TrustError (``refused`` while somebody must approve it), UnreachableError, MachineError; nothing is changed
    then.
    """
    with disk_errors("cannot read this node's key", identity.node_pem):
        old = identity.node_pem.read_bytes()
    key = keys.generate_tls_key()
    csr_pem = pki.make_csr(key)
    begin = old.find(b"-----BEGIN CERTIFICATE-----")
    request = EnrolRequest(
        node=identity.node,
        csr_pem=csr_pem,
        ended_pem=old[begin:].decode("ascii", "replace"),
        signature=pki.sign_again(old[:begin], csr_pem),
    )
    reply = enrol_call(identity.url, identity.server_ca_pem.read_text("ascii"), request)
    _check_chain(reply.chain_pem, key, identity.site, identity.node)
    replace_certificate(identity, key_pem=keys.key_pem(key), chain_pem=reply.chain_pem)
    client.reload()


def renew_if_due(client: OrchestratorClient, identity: Identity, now: datetime) -> bool:
    """From day 30 of 90, and also after its end. True when a new certificate is in use."""
    if not identity.renewal_due(now):
        return False
    if now > identity.not_after():
        renew_late(client, identity)
    else:
        renew(client, identity)
    return True


def _check_chain(chain_pem: str, key: EllipticCurvePrivateKey, site: str, node: str) -> None:
    """The certificate is for our key and our name; that it chains is the server's to judge, at every handshake."""
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem.encode("ascii"))[0]
        same = leaf.public_key() == key.public_key()
    except (ValueError, TypeError) as error:
        raise TrustError(f"the certificate in the answer is malformed: {error}", kind="bad-reply") from error
    if not same:
        raise TrustError("the certificate in the answer is for another key", kind="bad-reply")
    said = pki.peer_identity(leaf.public_bytes(Encoding.DER))
    if (said.site, said.node) != (site, node):
        raise TrustError(f"the certificate in the answer is for {said.site}/{said.node}", kind="bad-reply")
