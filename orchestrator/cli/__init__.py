"""``sluice``: the command line. A client of the operator API, and the place where people sign releases."""

from orchestrator.cli.app import main

__all__ = ["main"]
