"""The demo: ``python -m tests.demo`` stays until Ctrl-C; ``--check`` tells the fault story and ends."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.console import Console

from tests.demo.checks import Checks
from tests.demo.motor import MotorBearing
from tests.demo.stage import CONSOLE, ROOT, SITES, WEAR_MINUTES, WORKLOADS, Stage, leftovers
from tests.demo.story import Story
from tests.support.engine import Availability, engine
from tests.support.procs import wait_for

FOLDER = ROOT / "build" / "demo"
CHECK_WEAR_MINUTES = 3.0  # the bearing of the unattended demo: its baseline is learnt, then two minutes to be named
console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="unattended: fault story, table of checks, clean end")
    parser.add_argument("--screenshots", metavar="FOLDER", nargs="?", const="build/screenshots", default=None)
    parser.add_argument("--runtime", choices=["auto", "docker", "process"], default="auto")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the demo keeps everything")
    wear_help = f"until the motor's bearing is worn (default: {WEAR_MINUTES:g}, unattended {CHECK_WEAR_MINUTES:g})"
    parser.add_argument("--wear-minutes", type=float, default=None, help=wear_help)
    options = parser.parse_args()
    wear = options.wear_minutes
    if wear is None:
        wear = CHECK_WEAR_MINUTES if options.check or options.screenshots else WEAR_MINUTES
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # a shell that starts it with `&` has it ignored
    with engine() as available:
        runtime = choose_runtime(options.runtime, available)
        folder = options.folder.resolve()
        stage = Stage(folder, runtime, version(), wear_minutes=wear, usual_ports=True, say=console.print)
        try:
            return run(stage, options.check, options.screenshots)
        except KeyboardInterrupt:
            return 0
        finally:
            console.print("stopping: agents, orchestrator, workloads, machines ...")
            stage.close()
            if runtime == "docker":
                left = [name for site in SITES for name in leftovers(site)]
                console.print(f"[red]left behind: {', '.join(left)}[/]" if left else "nothing is left running")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def version() -> str:
    """Of this checkout; the images carry it in their tags."""
    try:
        return importlib.metadata.version("sluice")
    except importlib.metadata.PackageNotFoundError:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def choose_runtime(wanted: str, available: Availability) -> str:
    """Containers where an engine answers; else plain processes, and the user is told."""
    if wanted == "docker" and not available:
        raise SystemExit(f"no container engine: {available.reason}")
    if wanted != "auto":
        return wanted
    if available:
        return "docker"
    console.print(f"[yellow]No container engine ({available.reason}).[/]")
    console.print("[yellow]The demo runs its workloads as plain processes: the same signed releases, no isolation.[/]")
    return "process"


def bring_up(stage: Stage) -> dict[str, float]:
    """Everything up to live values in the console; seconds of each step."""
    begun = time.monotonic()
    seconds: dict[str, float] = {}

    def step(name: str, act: Callable[[], object]) -> None:
        console.print(f"{name} ...", end=" ")
        start = time.monotonic()
        act()
        seconds[name] = time.monotonic() - start
        console.print(f"{seconds[name]:.1f} s")

    if stage.runtime == "docker":
        step("container images", build_images)
    step("keys, orchestrator, log-in", stage.start_centre)
    step("releases: build, sign, publish", stage.publish)
    step("fleet of two plants applied", lambda: stage.apply("first light"))
    for site in SITES:
        step(f"plant {site}: machines, one-time token, agent", lambda s=site: stage.start_plant(s))  # type: ignore[misc]
    number = stage.start_rollout("first light")
    step("first live value", lambda: wait_for("a value", lambda: any_value(stage), 120, watch=programs(stage)))
    seconds["to the first value"] = time.monotonic() - begun
    step("rollout, both waves through the gate", lambda: stage.wait_for_rollout(number, 240))
    return seconds


def programs(stage: Stage) -> list[object]:
    return [stage.orchestrator, *stage.agents.values()]


def any_value(stage: Stage) -> bool:
    return any(stage.get(f"/sites/{site}/values") for site in SITES)


def build_images() -> None:
    """As ``./run images`` does; quick when nothing changed."""
    import subprocess

    names = [*WORKLOADS, "simulators"]
    only = [part for name in names for part in ("--only", name)]
    result = subprocess.run(
        [sys.executable, "-m", "workloads.images", *only], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"the images could not be built:\n{result.stdout}\n{result.stderr}")


def run(stage: Stage, check: bool, screenshots: str | None) -> int:
    checks = Checks(console)
    seconds: dict[str, float] = {}

    def up() -> str:
        seconds.update(bring_up(stage))
        first = seconds["to the first value"]
        return f"{stage.runtime} runtime, first value after {first:.1f} s, both sites on generation 1"

    if check:
        if checks.run("fresh start to live values at two plants", up):
            Story(stage, checks).tell()
        checks.print()
        (stage.folder / "seconds.json").write_text(json.dumps(seconds))
        return 0 if checks.passed else 1
    up()
    if screenshots is not None:
        from tests.support.screenshots import take_screenshots

        console.print("waiting for the motor's bearing to be named ...")
        MotorBearing(stage).wait_for_alert()
        for path in take_screenshots(stage.url, ("admin", stage.password), ROOT / screenshots):
            console.print(str(path))
        return 0
    invite(stage)
    while stage.orchestrator.running:
        time.sleep(1)
    console.print(f"[red]the orchestrator ended:[/]\n{stage.orchestrator.tail()}")
    return 1


def invite(stage: Stage) -> None:
    """How to look at it."""
    if not CONSOLE.is_dir():
        console.print("[yellow]The console is not built: ./run setup demo[/]")
    console.print()
    console.print(f"  Console   [bold]{stage.url}[/]")
    console.print(f"  Log in    user [bold]admin[/], password [bold]{stage.password}[/]")
    config = stage.folder / "config"
    console.print(f"  CLI       XDG_CONFIG_HOME={config} .venv/bin/sluice site list", soft_wrap=True)
    console.print("  Ctrl-C stops everything and cleans up.")
    console.print()


if __name__ == "__main__":
    sys.exit(main())
