"""``sluice keys``: make the keys of an enterprise, and say who may sign what. The offline half never goes near the
orchestrator: every command here works on folders, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from securesystemslib.signer import Key
from tuf.api.metadata import Root

from manifests import ceremony, keys, kits, signing
from manifests.catalog import APPROVING_ROLES, DELEGATED_ROLES, CatalogEditor
from manifests.checking import METADATA_FILE
from manifests.errors import DocumentError, MachineError, Problem, TrustError
from manifests.kits import Kit
from orchestrator.cli.output import JsonFlag, console, print_json, print_table
from orchestrator.cli.secrets import secret_of

app = typer.Typer(help="Make and look after signing keys.", no_args_is_help=True)
root_app = typer.Typer(help="Change a root with several people: draft, sign in turn, finish.", no_args_is_help=True)
app.add_typer(root_app, name="root")

SOON = timedelta(days=60)
Kits = Annotated[list[Path], typer.Option("--keys", help="A kit; once per kit.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="Folder with the catalog's public metadata.")]
PassphraseFile = Annotated[Path | None, typer.Option(help="Passphrase or PIN of the kits.", dir_okay=False)]
NoPassphrase = Annotated[bool, typer.Option("--no-passphrase", help="Leave the private keys unprotected (tests only).")]


def _new_passphrase(file: Path | None, none: bool) -> str | None:
    if file is not None:
        return secret_of(file)("passphrase")
    return None if none else typer.prompt("Passphrase for the new keys", hide_input=True, confirmation_prompt=True)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New folder for the keys.")],
    server_names: Annotated[
        list[str] | None, typer.Option("--server-name", help="DNS name or IP address by which agents reach the centre.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Protect the offline keys with this passphrase.", exists=True, dir_okay=False)
    ] = None,
    no_passphrase: NoPassphrase = False,
    as_json: JsonFlag = False,
) -> None:
    """Make release keys (offline), director and site keys (online), and the first roots."""
    passphrase = _new_passphrase(passphrase_file, no_passphrase)
    names = server_names or ["localhost", "127.0.0.1"]
    ceremony.init_keys(folder, server_names=names, now=datetime.now(UTC), passphrase=passphrase)
    if as_json:
        print_json({"offline": str(folder / "offline"), "online": str(folder / "online"), "serverNames": names})
        return
    console.print(f"[bold]{folder / 'offline'}[/]: release keys and roots. Keep them away from every server.")
    console.print(f"[bold]{folder / 'online'}[/]: what the orchestrator needs. Start it with:")
    console.print(f"  sluice orchestrator serve --keys {folder / 'online'} --data DATA", soft_wrap=True)
    console.print("OT and IT should hold a key each: sluice keys new, then sluice keys delegate approve-ot.")


@app.command("renew-server")
def renew_server_command(
    folder: Annotated[Path, typer.Argument(help="Folder that `keys init` made, with both halves.")],
    server_names: Annotated[
        list[str] | None, typer.Option("--server-name", help="DNS name or IP address by which agents reach the centre.")
    ] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Passphrase of the offline keys.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a new server key and certificate; agents go on trusting it. Restart the orchestrator afterwards."""
    passphrase = secret_of(passphrase_file)("passphrase") if passphrase_file else None
    names = server_names or ["localhost", "127.0.0.1"]
    ceremony.renew_server(folder, server_names=names, now=datetime.now(UTC), passphrase=passphrase)
    if as_json:
        print_json({"certificate": str(folder / "online" / "server-chain.pem"), "serverNames": names})
        return
    console.print(f"New certificate for {', '.join(names)} in {folder / 'online' / 'server-chain.pem'}.")
    console.print("Restart the orchestrator to use it.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as anna.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the kit.")],
    root: Annotated[Path, typer.Option("--root", help="The catalog root to trust (catalog.root.json).")],
    passphrase_file: PassphraseFile = None,
    no_passphrase: NoPassphrase = False,
    module: Annotated[str | None, typer.Option("--pkcs11", help="PKCS#11 module of a token that has the key.")] = None,
    keyid: Annotated[int, typer.Option(help="The key's id in the token (P-256 or P-384).")] = 2,
    label: Annotated[str, typer.Option(help="The token's label.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make one person's kit. Hand the .pub.json to whoever keeps the offline keys, and the fingerprint by voice."""
    if not name.replace("-", "").isalnum():
        raise DocumentError([Problem("NAME", name, "letters, digits and '-' only")])
    trusted = keys.read_key_file(root)
    signing.verify_root(trusted)
    if module is None:
        public = ceremony.new_member(out, name, _new_passphrase(passphrase_file, no_passphrase), root=trusted)
    else:
        data = kits.import_token(name, kits.Token(module=module, keyid=keyid, label=label))
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        public = out / f"{name}{kits.PUBLIC_SUFFIX}"
        public.write_bytes(data)
        (out / "catalog.root.json").write_bytes(trusted)
    member = kits.read_member(public)
    if as_json:
        print_json({"public": str(public), "keyid": member.key.keyid})
    else:
        console.print(f"{public}: key {member.key.keyid[:16]} ({member.key.keytype})")


@app.command()
def delegate(
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(DELEGATED_ROLES)}.")],
    members: Annotated[list[Path], typer.Argument(help="Public files (.pub.json) of all who may sign it from now on.")],
    keys_folders: Kits,
    catalog: CatalogFolder,
    threshold: Annotated[int, typer.Option(help="How many of them must sign together.")] = 1,
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Say who may sign a role; needs the catalog's root and targets keys. Others lose the right with the next publish.

    Sites follow by themselves. What the role said so far must be signed by those who remain: either name old and new
    together until one of the new has signed something, or, when a key was stolen, bring a new member's kit (--keys).
    """
    secret = secret_of(passphrase_file)
    editor = CatalogEditor.open(catalog, keys_folders, secret)
    public = [kits.read_member(path).key for path in members]
    _not_both_sides(editor, role, public)
    kit = Kit.open(keys_folders)
    signers = kit.signers(_root_keyids(editor.root), secret)
    wider = ceremony.widen_snapshot(editor.root, public, signers, now=datetime.now(UTC))
    if wider is not None:
        editor.adopt_root(wider)
    editor.delegate(role, public, threshold)
    files = editor.sign(datetime.now(UTC))
    for name, data in files.items():
        (catalog / name).write_bytes(data)
    if as_json:
        print_json({"role": role, "keyids": [key.keyid for key in public], "catalogVersion": editor.version})
        return
    names = ", ".join(key.keyid[:16] for key in public)
    console.print(f"{role}: {threshold} of {len(public)} ({names}); catalog version {editor.version}.")
    console.print(
        "Publish it: sluice release publish --catalog CATALOG; what lost keys signed stays until signed anew."
    )


def _not_both_sides(editor: CatalogEditor, role: str, members: Sequence[Key]) -> None:
    """One key that may speak for OT and for IT would make two approvals out of one person."""
    for other in set(APPROVING_ROLES) - {role}:
        if role not in APPROVING_ROLES:
            return
        held = set(editor.delegations().get(other, (0, ()))[1]) & {key.keyid for key in members}
        if held:
            what = f"key {min(held)[:16]} approves for the other side already"
            raise TrustError(what, kind="both-sides", where=other, remedy="give each side keys of its own")


@app.command()
def show(catalog: CatalogFolder, keys_folders: Kits, as_json: JsonFlag = False) -> None:
    """Who may sign what, until when, and which of these keys are in the kits given."""
    editor = CatalogEditor.open(catalog, keys_folders)
    mine = Kit.open(keys_folders).keyids()
    names = {member.key.keyid: member.name for member in Kit.open(keys_folders).members}
    root = signing.parse(editor.root, Root, "root.json").signed
    rows = [(role, entry.threshold, tuple(entry.keyids)) for role, entry in sorted(root.roles.items())]
    rows += [(role, threshold, keyids) for role, (threshold, keyids) in editor.delegations().items()]
    if as_json:
        print_json(
            [
                {"role": role, "threshold": wanted, "keyids": list(found), "here": [k for k in found if k in mine]}
                for role, wanted, found in rows
            ]
        )
        return
    console.print(f"catalog root version {root.version}, until {root.expires:%Y-%m-%d}; catalog {editor.version}")
    print_table(
        "",
        ("role", "needs", "keys", "in these kits"),
        (
            (
                role,
                f"{wanted} of {len(found)}",
                " ".join(k[:12] for k in found),
                " ".join(names.get(k, "") for k in found),
            )
            for role, wanted, found in rows
        ),
    )


def _short(keyids: Sequence[str]) -> str:
    return " ".join(keyid[:12] for keyid in keyids)


@app.command()
def rehearse(
    keys_folders: Kits, catalog: CatalogFolder, passphrase_file: PassphraseFile = None, as_json: JsonFlag = False
) -> None:
    """Open every key of the kits and sign a trial; say what ends within 60 days. Changes nothing; do it every year."""
    kit, secret = Kit.open(keys_folders), secret_of(passphrase_file)
    editor = CatalogEditor.open(catalog, keys_folders, secret)
    for member in kit.members:
        trial = b"rehearsal"
        member.key.verify_signature(member.signer(secret).sign(trial), trial)
    soon = datetime.now(UTC) + SOON
    ending = {name: when for name, when in editor.expiries().items() if when < soon}
    if as_json:
        print_json({"keys": [m.name for m in kit.members], "ending": {n: w.isoformat() for n, w in ending.items()}})
        return
    console.print(f"{len(kit.members)} keys open and sign: {', '.join(member.name for member in kit.members)}")
    for name, when in sorted(ending.items()):
        console.print(f"[yellow]{name} ends on {when:%Y-%m-%d}[/]: sign it anew before")


# ---------------------------------------------------------------- roots


@root_app.command("draft")
def root_draft(
    previous: Annotated[Path, typer.Argument(help="The newest root.json (catalog or director).")],
    out: Annotated[Path, typer.Option("--out", help="The draft.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="ROLE=PUB.json[,PUB.json]: replace its keys.")
    ] = None,
    threshold: Annotated[list[str] | None, typer.Option("--threshold", help="ROLE=N.")] = None,
) -> None:
    """Write the next version of a root, not yet signed; each holder of a root key then runs `keys root sign`."""
    replaced: dict[str, list[Key]] = {}
    thresholds: dict[str, int] = {}
    problems = []
    for text in role or []:
        name, _, files = text.partition("=")
        if name not in ("root", "targets", "snapshot", "timestamp") or not files:
            problems.append(Problem("--role", text, "is not ROLE=PUB.json", "roles: root targets snapshot timestamp"))
            continue
        replaced[name] = [kits.read_member(Path(file)).key for file in files.split(",")]
    for text in threshold or []:
        name, _, count = text.partition("=")
        if not count.isdigit():
            problems.append(Problem("--threshold", text, "is not ROLE=N"))
            continue
        thresholds[name] = int(count)
    if problems:
        raise DocumentError(problems)
    data = signing.next_root(
        keys.read_key_file(previous), signers=[], replace=dict(replaced), thresholds=thresholds, now=datetime.now(UTC)
    )
    out.write_bytes(data)
    console.print(f"{out}: version {signing.version_of(data)}, not signed yet")


@root_app.command("sign")
def root_sign(
    draft: Annotated[Path, typer.Argument(help="The draft.")],
    previous: Annotated[Path, typer.Option("--previous", help="The root it follows.")],
    keys_folders: Kits,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Add the signatures of the root keys in these kits to a draft."""
    data = keys.read_key_file(draft)
    new = signing.parse(data, Root, str(draft)).signed.roles["root"].keyids
    old = signing.parse(keys.read_key_file(previous), Root, str(previous)).signed.roles["root"].keyids
    mine = [member for member in Kit.open(keys_folders).members if member.key.keyid in {*old, *new}]
    if not mine:
        raise TrustError("no root key, old or new, is in these kits", kind="threshold", where="--keys")
    secret = secret_of(passphrase_file)
    draft.write_bytes(signing.countersign(data, [member.signer(secret) for member in mine]))
    console.print(f"{draft}: signed by {', '.join(member.name for member in mine)}")


@root_app.command("finish")
def root_finish(
    draft: Annotated[Path, typer.Argument(help="The draft with all signatures.")],
    previous: Annotated[Path, typer.Option("--previous", help="The root it follows.")],
    out: Annotated[Path, typer.Option("--out", help="Folder it belongs in: the catalog's, or the online roots.")],
    prefix: Annotated[str, typer.Option(help="Name for a director's root: director.")] = "",
) -> None:
    """Check that sites will follow the new root, and put it in place under its number."""
    data = signing.complete_root(keys.read_key_file(previous), keys.read_key_file(draft))
    name = f"{signing.version_of(data)}.{prefix + '.' if prefix else ''}root.json"
    if not prefix and METADATA_FILE.fullmatch(name) is None:
        raise MachineError("not a name of metadata", where=name)
    (out / name).write_bytes(data)
    console.print(f"{out / name}: sites follow it from the next sync on")


def _root_keyids(root: bytes) -> list[str]:
    return list(signing.parse(root, Root, "root.json").signed.roles["root"].keyids)
