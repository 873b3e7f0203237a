"""``sluice machine show | acknowledge | evidence``: what people do with a machine whose vibration is watched at a site.

The workload answers inquiries and has one live parameter, ``acknowledged``; the words are those of
``workloads/vibration``. Showing and fetching change nothing; acknowledging stops and repairs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from manifests.errors import DocumentError, MachineError, Problem, SluiceError
from orchestrator.api.schemas import AnswerView, InquiryEnd, InquiryRequest, ParametersRequest, ParametersView
from orchestrator.cli.connection import Connection
from orchestrator.cli.instance import instance_path
from orchestrator.cli.options import InstanceName, SiteName, Why
from orchestrator.cli.output import JsonFlag, ServerOption, console, print_json, print_table

app = typer.Typer(help="A machine under watch: its state, its alerts, the records behind them.", no_args_is_help=True)
PARAMETER = "acknowledged"
SUFFIX = ".svb1"  # read by `python -m workloads.vibration analyse`
ANSWER_S, FETCH_S = 15.0, 120.0
UNSEEN = ("unacknowledged", "returned")
MachineName = Annotated[str | None, typer.Argument(help="The machine; may be left out where there is one.")]


@app.command()
def show(
    site: SiteName,
    instance: InstanceName,
    machine: MachineName = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What its last record says: alert, bearings, severity with its limits, indicators, remaining time."""
    asset = _asset(Connection(server), site, instance, machine)
    if as_json:
        print_json(asset)
    else:
        print_table("", ("what", "says"), [(escape(name), escape(text)) for name, text in told(asset)])


@app.command()
def acknowledge(
    site: SiteName,
    instance: InstanceName,
    why: Why,
    machine: MachineName = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say that somebody has seen what was raised up to its last record. What is raised later is told anew."""
    line = Connection(server)
    asset = _asset(line, site, instance, machine)
    if asset.get("alertState") not in UNSEEN:
        what = f"no alert of {asset.get('machine')} waits for somebody: {asset.get('alertState') or 'no state yet'}"
        raise DocumentError([Problem(f"{site}/{instance}", "machine", what)])
    path = instance_path(site, instance, "parameters")
    before = next((one.value for one in line.get(path, ParametersView).parameters if one.name == PARAMETER), None)
    seen = {**(before or {}), str(asset["machine"]): until(asset)}
    view = line.put(path, ParametersRequest(values={PARAMETER: seen}, why=why), ParametersView)
    if as_json:
        print_json(view)
    else:
        alert = escape(str(asset.get("alert") or "an alert that has gone again"))
        console.print(f"{escape(str(asset['machine']))}: seen up to {until(asset)}: {alert}")


@app.command()
def evidence(
    site: SiteName,
    instance: InstanceName,
    record: Annotated[str | None, typer.Argument(help="Its id: fetch it. Left out: list what is kept.")] = None,
    out: Annotated[Path | None, typer.Option(help=f"Where to write it; default: ID{SUFFIX} here.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The records that raised alerts, kept at the node until somebody asks for one."""
    line, path = Connection(server), instance_path(site, instance, "inquiries")
    if record is None:
        listed: Any = line.post(path, _asking("evidence", {}, ANSWER_S), AnswerView, timeout_s=2 * ANSWER_S).value
        if as_json:
            print_json(listed)
            return
        rows = [
            (escape(str(one["id"])), escape(str(one["machine"])), _size(one), escape("; ".join(one["alerts"])))
            for one in listed
        ]
        print_table("", ("id", "machine", "record", "alert"), rows, empty="no alert was raised, so no record is kept")
        return
    target = out or Path(f"{record}{SUFFIX}")
    size = _fetch(line, path, f"{site}/{instance}", record, target)
    if as_json:
        print_json({"file": str(target), "bytes": size})
    else:
        console.print(
            f"{escape(str(target))}: {size} bytes; python -m workloads.vibration analyse {escape(str(target))}"
        )


def _asset(line: Connection, site: str, instance: str, machine: str | None) -> Mapping[str, Any]:
    arguments = {} if machine is None else {"machine": machine}
    path = instance_path(site, instance, "inquiries")
    said: Any = line.post(path, _asking("asset", arguments, ANSWER_S), AnswerView, timeout_s=2 * ANSWER_S).value
    if not isinstance(said, Mapping) or "machine" not in said:
        raise MachineError(f"{instance} does not watch machines", where=f"{site}/{instance}")
    return said


def _asking(kind: str, arguments: dict[str, Any], timeout_s: float) -> InquiryRequest:
    return InquiryRequest(kind=kind, arguments=arguments, timeout_s=timeout_s)


def _fetch(line: Connection, path: str, where: str, record: str, target: Path) -> int:
    """Writes the whole record or nothing. Raises SluiceError when it does not arrive, OSError of the disk."""
    part = target.with_name(f".{target.name}.part")
    size = 0
    try:
        with part.open("wb") as file:
            for event, data in line.stream(path, _asking("evidence", {"id": record}, FETCH_S), timeout_s=FETCH_S + 15):
                if event == "answer":
                    piece = base64.b64decode(AnswerView.model_validate_json(data).base64 or "")
                    size += file.write(piece)
                elif event == "end":  # unlike whoever watches, a file needs every piece and the last
                    end = InquiryEnd.model_validate_json(data)
                    if end.reason != "final" or end.dropped:
                        raise SluiceError(end.detail or end.reason or "pieces were lost on the way", where=where)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return size


def until(asset: Mapping[str, Any]) -> str:
    """A moment after the record that was looked at: alerts carry their record's time, instants have milliseconds."""
    start_ns = asset.get("startNs")
    if not isinstance(start_ns, int):
        raise MachineError("the last record has no time to acknowledge up to")
    moment = datetime.fromtimestamp((-(-start_ns // 1_000_000) + 1) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told(asset: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The asset in rows for people."""
    rows = [("machine", str(asset["machine"])), ("record", str(asset.get("record")))]
    if asset.get("quality"):
        rows.append(("quality", str(asset["quality"])))
    rows.append(("alert", f"{asset.get('alert') or 'none'} ({asset.get('alertState') or 'not known'})"))
    for one in asset.get("bearings", ()):
        sure = f", {one['confidence']:.0%} sure" if one.get("confidence") is not None else ""
        rows.append((f"bearing {one['bearing']}", f"{one['verdict']}{sure}: {one['why']}"))
    rows.append(("severity", _severity(asset.get("severity") or {})))
    if asset.get("indicatorsMissing"):
        rows.append(("indicators", f"none looked for: {asset['indicatorsMissing']}"))
    rows += [(one["name"], f"{one['strength']:.0%}: {one['evidence']}") for one in asset.get("indicators", ())]
    rows.append(("trend", str(asset.get("alarm") or "not known")))
    remaining = asset.get("remaining")
    if remaining is not None:
        rows.append(("remaining", _remaining(remaining)))
    return rows


def _severity(severity: Mapping[str, Any]) -> str:
    zone = f"no zone: {severity.get('why')}"
    if severity.get("zone"):
        zone = f"zone {severity['zone']}, {severity['velocityMmS']:.3g} mm/s"
    if not severity.get("limitsMmS"):
        return zone
    limits = " / ".join(f"{limit:g}" for limit in severity["limitsMmS"])
    return f"{zone}; {severity['edition']}, {severity['machineGroup']}: {limits} mm/s"


def _remaining(remaining: Mapping[str, Any]) -> str:
    if remaining.get("days") is None:
        return f"none is told: {remaining['why']}"
    span = f"{remaining['days']:.3g} days ({remaining['earliestDays']:.3g} to {remaining['latestDays']:.3g})"
    return f"{span} until {remaining['feature']} is {remaining['factor']:g} times its baseline; {remaining['why']}"


def _size(one: Mapping[str, Any]) -> str:
    seconds = one["samples"] / one["rate_hz"] if one.get("rate_hz") else 0.0
    return f"{seconds:.3g} s at {one.get('rate_hz', 0):g} Hz"
