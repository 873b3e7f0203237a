"""The closed list of what an agent can do to its node; ``plan`` chooses, ``execute`` performs.

``Wait`` is one of them, so that an operator can always read why nothing happens.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.runtimes.base import Wanted
from manifests.model import Artifact


@dataclass(frozen=True, slots=True)
class Pull:
    """Make an artifact startable; ``name`` is the first instance that needs it."""

    name: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Connect:
    """Make the network of a segment."""

    name: str
    segment: str


@dataclass(frozen=True, slots=True)
class Start:
    """Run an instance that is not there, or that has ended."""

    instance: Wanted

    @property
    def name(self) -> str:
        return self.instance.name


@dataclass(frozen=True, slots=True)
class Replace:
    """Stop the life that runs an older release or configuration and start the new one, which is already prepared.

    ``old_release`` says what ran before: the place from which a return to it will be planned.
    """

    instance: Wanted
    old_release: str
    old_config: str

    @property
    def name(self) -> str:
        return self.instance.name


@dataclass(frozen=True, slots=True)
class Change:
    """Let the program of another release take over from the one that runs, between two scans: nothing stops, and what
    cannot go on so is refused. One that scans nothing is replaced."""

    instance: Wanted
    old_release: str

    @property
    def name(self) -> str:
        return self.instance.name


@dataclass(frozen=True, slots=True)
class Configure:
    """Give a running instance new live parameters: it goes on running."""

    instance: Wanted

    @property
    def name(self) -> str:
        return self.instance.name


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance that the site should no longer run."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget an ended instance that the site should no longer run."""

    name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done for ``name`` before ``until_ns`` (monotonic; 0 = until something else changes)."""

    name: str
    reason: str
    detail: str = ""
    until_ns: int = 0

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + (f", {self.detail}" if self.detail else "")


Action = Pull | Connect | Start | Replace | Change | Configure | Stop | Remove | Wait
