"""The errors that every part of Sluice raises, so that callers can tell families apart.

    SluiceError            what, where, remedy
    |- DocumentError       a document is wrong: fix it and try again (carries every Problem found)
    |- TrustError          not trusted: signatures, freshness, binding; never retried blindly
    |- UnreachableError    the other side did not answer: will be retried
    |- MachineError        the machine refused: engine, disk, device, port
    `- InternalError       our bug

``retryable`` belongs to the class; nothing guesses it from a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a document: ``where`` is ``file:line``, ``path`` the place inside the document."""

    where: str
    path: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}  {self.path}".rstrip(), self.what]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class SluiceError(Exception):
    """Root of the tree. ``what`` happened, ``where`` (site, file, tag), and the ``remedy``."""

    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.remedy})" if self.remedy else text


class DocumentError(SluiceError):
    """A document people wrote is wrong; ``problems`` lists every mistake, in reading order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(
            f"{count} mistake{'s' if count != 1 else ''} found",
            where=self.problems[0].where if self.problems else "",
            remedy="nothing was changed; correct them and run the command again",
        )

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


class TrustError(SluiceError):
    """Something is not trusted. ``kind`` is a stable word for status pages and tests."""

    def __init__(self, what: str, *, kind: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.kind = kind


class UnreachableError(SluiceError):
    """The other side did not answer in time, or cut the line."""

    retryable = True


class MachineError(SluiceError):
    """The machine refused: the engine, the disk, a device."""


class InternalError(SluiceError):
    """Our own bug; the text says what was assumed."""
