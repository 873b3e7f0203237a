"""How the command line asks for passphrases and PINs: from a file for scripts, from the terminal for people."""

from __future__ import annotations

from pathlib import Path

import typer

from manifests.errors import MachineError
from manifests.kits import Secret


def secret_of(file: Path | None) -> Secret:
    """With a file its first line answers every question; without one each is asked once."""
    if file is not None:
        try:
            said = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise MachineError(f"cannot read the passphrase: {error}", where=str(file)) from error
        return lambda _: said
    answers: dict[str, str] = {}

    def ask(what: str) -> str:
        if what not in answers:
            answers[what] = typer.prompt(what[0].upper() + what[1:], hide_input=True)
        return answers[what]

    return ask
