"""Routes about secrets: which there are, putting in a sealed one, removing one. Values come and go sealed, or not at
all: what the centre holds it cannot open."""

from __future__ import annotations

import re

from fastapi import APIRouter
from sqlalchemy import Connection

from manifests.errors import DocumentError, Problem
from manifests.messages import Severity
from manifests.model import MAX_SECRETS, NAME_PATTERN, SealedSecret
from manifests.secrets import fingerprint
from orchestrator.api.callers import CentreDep, UserDep, needs
from orchestrator.api.parameters import placed_instance
from orchestrator.api.problems import ApiError, responses
from orchestrator.api.secret_shapes import SecretRemoval, SecretRequest, SecretsView, SecretView
from orchestrator.centre import Centre
from orchestrator.people.permissions import Permission
from orchestrator.store import events, secrets, sites
from orchestrator.views import at

router = APIRouter(tags=["secrets"])
PATH = "/sites/{site}/instances/{instance}/secrets"


@router.get(PATH, dependencies=[needs(Permission.LOOK)], responses=responses(404))
def read_secrets(site: str, instance: str, centre: CentreDep) -> SecretsView:
    """Names, versions and ages of the instance's secrets, and the key that new ones are sealed with."""
    with centre.store.read() as conn:
        return _view(conn, site, instance)


@router.put(PATH + "/{name}", dependencies=[needs(Permission.SET_PARAMETERS)], responses=responses(404, 422))
def put_secret(
    site: str, instance: str, name: str, body: SecretRequest, user: UserDep, centre: CentreDep
) -> SecretsView:
    """Take a sealed secret, or a newer version of it; the site is told at once, and the instance goes on running."""
    now_ns = centre.now_ns()
    with centre.store.write() as conn:
        view = _view(conn, site, instance)
        known = {one.name: one for one in view.secrets}
        if problems := _mistakes(view, known, name, body):
            raise DocumentError(problems)
        sealed = SealedSecret(name=name, version=body.version, recipient=body.recipient, sealed=body.sealed)
        secrets.put(conn, secrets.StoredSecret(site, instance, body.node, sealed, now_ns, user, body.why))
        centre.publisher.revise(conn, site)
        old = f"version {known[name].version} -> " if name in known else ""
        text = f"{old}version {body.version}, sealed for {body.node} ({body.recipient}): {body.why}"
        subject = f"{instance} {name}"
        events.add(conn, now_ns, Severity.INFO, "secret-set", text, subject=subject, site=site, actor=user)
        view = _view(conn, site, instance)
    _tell(centre, site)
    return view


@router.post(PATH + "/{name}/removal", dependencies=[needs(Permission.SET_PARAMETERS)], responses=responses(404, 422))
def remove_secret(
    site: str, instance: str, name: str, body: SecretRemoval, user: UserDep, centre: CentreDep
) -> SecretsView:
    """Take a secret away from the instance."""
    now_ns = centre.now_ns()
    with centre.store.write() as conn:
        known = {one.name: one for one in _view(conn, site, instance).secrets}
        if name not in known:
            raise ApiError(404, f"{site}/{instance} has no secret {name[:63]!r}", remedy=f"it has: {', '.join(known)}")
        secrets.remove(conn, site, instance, name)
        centre.publisher.revise(conn, site)
        text, subject = f"version {known[name].version}: {body.why}", f"{instance} {name}"
        events.add(conn, now_ns, Severity.WARNING, "secret-removed", text, subject=subject, site=site, actor=user)
        view = _view(conn, site, instance)
    _tell(centre, site)
    return view


def _tell(centre: Centre, site: str) -> None:
    centre.publisher.announce(site)
    centre.live.site_changed(site)


def _mistakes(view: SecretsView, known: dict[str, SecretView], name: str, body: SecretRequest) -> list[Problem]:
    found = []
    if not re.fullmatch(NAME_PATTERN, name):
        found.append(Problem("secret", "name", f"{name[:70]!r} is no name", "lower-case letters, digits and '-'"))
    if body.node != view.node:
        found.append(Problem("secret", "node", f"{view.instance} runs on {view.node}, not on {body.node}"))
    elif view.fingerprint is None:
        found.append(Problem("secret", "recipient", f"{view.node} has not told its key yet", "wait for its report"))
    elif body.recipient != view.fingerprint:
        what = f"sealed for {body.recipient}, but {view.node} has {view.fingerprint}"
        found.append(Problem("secret", "recipient", what, "seal it again: sluice secret set"))
    if name in known and body.version <= known[name].version:
        found.append(Problem("secret", "version", f"{body.version} is not newer than {known[name].version}"))
    if name not in known and len(known) >= MAX_SECRETS:
        found.append(Problem("secret", "name", f"{view.instance} has {MAX_SECRETS} secrets, as many as it may have"))
    return found


def _view(conn: Connection, site: str, instance: str) -> SecretsView:
    _, placed = placed_instance(conn, site, instance)
    node = placed.instance.node
    keys = {r.node: r.report.sealing_key for r in sites.reports(conn, [site])}
    key = keys.get(node) or None
    print_ = fingerprint(key) if key else None
    return SecretsView(
        site=site,
        instance=instance,
        node=node,
        sealing_key=key,
        fingerprint=print_,
        secrets=[
            SecretView(
                name=one.sealed.name,
                version=one.sealed.version,
                set_at=at(one.set_ns),
                set_by=one.set_by,
                why=one.why,
                recipient=one.sealed.recipient,
                opens=one.node == node and one.sealed.recipient == print_,
            )
            for one in secrets.of_sites(conn, [site])
            if one.instance == instance
        ],
    )
