"""The table of checks that ``./run demo-check`` prints."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Check:
    name: str
    figure: str
    passed: bool


class CheckError(AssertionError):
    """A check did not hold; the text is its figure."""


def require(condition: bool, figure: str) -> None:
    """Fail the running check with ``figure`` unless ``condition``."""
    if not condition:
        raise CheckError(figure)


@dataclass
class Checks:
    """Runs checks one after the other; one that fails does not keep the others from running."""

    console: Console
    done: list[Check] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """``check`` returns its figure, or raises CheckError with it; anything else that it raises is a failure too."""
        self.console.print(f"[dim]checking:[/] {escape(name)}")
        try:
            result = Check(name, check(), True)
        except CheckError as error:
            result = Check(name, str(error), False)
        except Exception as error:  # noqa: BLE001 - top of the loop: it becomes a line of the report
            self.console.print(escape(traceback.format_exc()))
            result = Check(name, f"{type(error).__name__}: {error}"[:500], False)
        mark = "[green]ok[/]" if result.passed else "[red]FAILED[/]"
        self.console.print(f"  {mark} {escape(result.figure)}")
        self.done.append(result)
        return result.passed

    @property
    def passed(self) -> bool:
        return bool(self.done) and all(check.passed for check in self.done)

    def print(self) -> None:
        table = Table(title="demo check", title_justify="left", show_lines=False)
        table.add_column("check", overflow="fold")
        table.add_column("figure", overflow="fold")
        table.add_column("result")
        for check in self.done:
            table.add_row(
                escape(check.name), escape(check.figure), "[green]ok[/]" if check.passed else "[red]FAILED[/]"
            )
        self.console.print(table)
        failed = sum(1 for check in self.done if not check.passed)
        self.console.print(f"{len(self.done) - failed} of {len(self.done)} checks passed")
