"""``sluice keys``: make the keys of an enterprise. The offline half never goes near the orchestrator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from manifests.ceremony import init_keys, renew_server
from orchestrator.cli.output import JsonFlag, console, print_json

app = typer.Typer(help="Make and look after signing keys.", no_args_is_help=True)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New folder for the keys.")],
    server_names: Annotated[
        list[str] | None, typer.Option("--server-name", help="DNS name or IP address by which agents reach the centre.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Protect the offline keys with this passphrase.", exists=True, dir_okay=False)
    ] = None,
    no_passphrase: Annotated[bool, typer.Option(help="Leave the offline keys unprotected (tests only).")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make release keys (offline), director and site keys (online), and the first roots."""
    if passphrase_file:
        passphrase: str | None = passphrase_file.read_text(encoding="utf-8").strip()
    elif no_passphrase:
        passphrase = None
    else:
        passphrase = typer.prompt("Passphrase for the offline keys", hide_input=True, confirmation_prompt=True)
    names = server_names or ["localhost", "127.0.0.1"]
    init_keys(folder, server_names=names, now=datetime.now(UTC), passphrase=passphrase)
    if as_json:
        print_json({"offline": str(folder / "offline"), "online": str(folder / "online"), "serverNames": names})
        return
    console.print(f"[bold]{folder / 'offline'}[/]: release keys and roots. Keep them away from every server.")
    console.print(f"[bold]{folder / 'online'}[/]: what the orchestrator needs. Start it with:")
    console.print(f"  sluice orchestrator serve --keys {folder / 'online'} --data DATA", soft_wrap=True)


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
    passphrase = passphrase_file.read_text(encoding="utf-8").strip() if passphrase_file else None
    names = server_names or ["localhost", "127.0.0.1"]
    renew_server(folder, server_names=names, now=datetime.now(UTC), passphrase=passphrase)
    if as_json:
        print_json({"certificate": str(folder / "online" / "server-chain.pem"), "serverNames": names})
        return
    console.print(f"New certificate for {', '.join(names)} in {folder / 'online' / 'server-chain.pem'}.")
    console.print("Restart the orchestrator to use it.")
