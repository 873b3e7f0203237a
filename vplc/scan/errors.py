"""What can go wrong before a scan begins, and when a peer attaches.

ScanError
  Refused        documents that do not fit; carries all problems at once
  NotRunning     no host where one was expected; trying again later may work
  Unbuildable    the host could not be compiled
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what it is, what to do."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"\n  hint: {self.hint}" if self.hint else "")


class ScanError(Exception):
    """Base of all errors of this package."""

    retryable = False


class Refused(ScanError):  # noqa: N818 - an answer, like the two below
    """Nothing was changed; `problems` holds everything that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)


class NotRunning(ScanError):  # noqa: N818 - a state of the plant, not a mistake
    """There is no running host in the folder."""

    retryable = True


class Unbuildable(ScanError):  # noqa: N818 - reads like the others
    """The host's C sources could not be compiled; the message holds the compiler's words."""
