"""``sluice secret``: passwords and keys for instances, sealed on this machine for the node that needs them.

What is typed or read here leaves as ciphertext only. The node's key comes from the centre: compare its fingerprint with
``sluice agent status`` at the node, or give it with ``--fingerprint``, where the centre itself is not to be trusted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from manifests.errors import MachineError, TrustError
from manifests.secrets import MAX_SECRET_BYTES, SecretPlace, fingerprint, seal
from orchestrator.api.secret_shapes import SecretRemoval, SecretRequest, SecretsView
from orchestrator.cli.connection import Connection
from orchestrator.cli.options import InstanceName, SiteName, Why
from orchestrator.cli.output import JsonFlag, ServerOption, age_text, console, print_json, print_table

app = typer.Typer(help="Secrets of instances: sealed here, opened on the node only.", no_args_is_help=True)
SecretName = Annotated[str, typer.Argument(help="Name of the secret, as the configuration says it.")]


@app.command("list")
def list_secrets(
    site: SiteName, instance: InstanceName, server: ServerOption = None, as_json: JsonFlag = False
) -> None:
    """Names, versions and ages. Values cannot be had from anywhere but the node."""
    _show(Connection(server).get(_path(site, instance), SecretsView), as_json)


@app.command("set")
def set_secret(
    site: SiteName,
    instance: InstanceName,
    name: SecretName,
    why: Why,
    file: Annotated[str | None, typer.Option("--file", help="Read it from this file; `-` is stdin.")] = None,
    pinned: Annotated[str | None, typer.Option("--fingerprint", help="Seal for this key only.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Seal a secret for the node that runs the instance. A new value replaces the old one without a restart."""
    connection = Connection(server)
    view = connection.get(_path(site, instance), SecretsView)
    if view.sealing_key is None:
        what = f"node {view.node} has not told its sealing key yet"
        raise MachineError(what, where=f"{site}/{instance}", remedy="start its agent, or wait for its first report")
    found = fingerprint(view.sealing_key)  # of the very key that is used, not what the centre says of it
    if pinned is not None and pinned != found:
        what = f"the centre gives key {found} for {view.node}, not {pinned}"
        raise TrustError(what, kind="other-key", where=f"{site}/{view.node}", remedy="ask at the node: agent status")
    value = _read(file)
    before = max((one.version for one in view.secrets if one.name == name), default=0)
    place = SecretPlace(
        site=site, node=view.node, instance=instance, name=name, version=max(before + 1, int(time.time()))
    )
    sealed = seal(value, view.sealing_key, place)
    request = SecretRequest(
        node=view.node, version=sealed.version, recipient=sealed.recipient, sealed=sealed.sealed, why=why
    )
    after = connection.put(f"{_path(site, instance)}/{name}", request, SecretsView)
    if not as_json:
        console.print(f"Sealed {len(value)} bytes for {site}/{view.node}, key {sealed.recipient}.")
    _show(after, as_json)


@app.command("remove")
def remove_secret(
    site: SiteName,
    instance: InstanceName,
    name: SecretName,
    why: Why,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a secret away from the instance."""
    path = f"{_path(site, instance)}/{name}/removal"
    _show(Connection(server).post(path, SecretRemoval(why=why), SecretsView), as_json)


def _path(site: str, instance: str) -> str:
    return f"/sites/{site}/instances/{instance}/secrets"


def _read(file: str | None) -> bytes:
    """One line end is not part of it: editors add one."""
    if file is None:
        return str(typer.prompt("Value", hide_input=True, confirmation_prompt=True)).encode()
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            value = source.read(MAX_SECRET_BYTES + 2)
    except OSError as error:
        raise MachineError(f"cannot read the secret: {error.strerror}", where=file) from error
    return value.removesuffix(b"\n").removesuffix(b"\r")


def _show(view: SecretsView, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    key = fingerprint(view.sealing_key) if view.sealing_key else "not told yet"
    console.print(f"{view.site}/{view.instance} on {view.node}, sealing key {key}")
    rows = [
        (
            escape(one.name),
            str(one.version),
            f"{age_text(one.set_at)} ago",
            escape(f"{one.set_by}: {one.why}"),
            "" if one.opens else "sealed for another key: set it again",
        )
        for one in view.secrets
    ]
    print_table("", ("secret", "version", "set", "by", ""), rows, empty="no secrets")
