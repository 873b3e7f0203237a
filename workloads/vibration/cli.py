"""``python -m workloads.vibration``: analyse one file, diagnose a list of records, export findings, print the schema.

A client of the pure functions beside it. Each record of a list stands alone: what one holds, or fails to hold, never
changes the answer for another. A record that cannot be judged is answered with N, confidence 0 and the reasons.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from manifests.errors import DocumentError, Problem
from workloads.vibration import export, files, parquet
from workloads.vibration.asset import Asset, AssetPlan, tell
from workloads.vibration.bearing import LIBRARY, NAMES, Orders, by_name, check_orders, completed
from workloads.vibration.diagnose import Diagnosis, Verdict, diagnose
from workloads.vibration.features import Features, screen
from workloads.vibration.indicators import Indicator, indicators
from workloads.vibration.memory import keep_freed_memory
from workloads.vibration.picture import evidence_svg
from workloads.vibration.product import VibrationAsset, product, schema
from workloads.vibration.quality import Effect, Finding, check, refusals
from workloads.vibration.record import Record, unit_of
from workloads.vibration.report import diagnosis_json, features_json, finding_json, plain, zone_json
from workloads.vibration.zones import LIMITS, Zone, zone

MAX_LIST_BYTES = 64 << 20
MAX_LISTED = 100_000


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m workloads.vibration", description="Vibration analysis of records.")
    verbs = top.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("analyse", help="features, severity and diagnosis of one file")
    one.add_argument("file", type=Path, help=f"one of {', '.join(files.SUFFIXES)}")
    _record_options(one)
    one.add_argument("--teeth", type=int, help="teeth of a gear on this shaft, for the mesh lines")
    one.add_argument("--mains", type=float, default=50.0, help="mains frequency in Hz (default 50)")
    one.add_argument("--picture", type=Path, help="write the evidence as an SVG picture; needs a bearing")
    one.add_argument("--json", action="store_true", help="one JSON object instead of text")
    out = verbs.add_parser("export", help="findings of records, or of VibrationAsset documents, as a table")
    out.add_argument("file", type=Path, nargs="+", help="records, or documents as .json (one or a list) or .jsonl")
    _record_options(out)
    out.add_argument("--format", choices=["csv", "parquet", "mimosa"], default="csv")
    out.add_argument("--out", type=Path, help="where to write; needed for parquet, else standard output")
    out.set_defaults(json=False)
    verbs.add_parser("schema", help="JSON Schema of the data product VibrationAsset").set_defaults(json=True)
    many = verbs.add_parser("diagnose", help="diagnoses of the records a JSON list names")
    many.add_argument("list", type=Path, help="JSON: [{id, file, rate, rpm, orders, unit}, ...]")
    many.add_argument("--json", action="store_true", help="one JSON list instead of text")
    return top


def _record_options(verb: argparse.ArgumentParser) -> None:
    """What must be known of a record beside its samples."""
    verb.add_argument("--rate", type=float, help="sampling rate in Hz; not needed where the file tells it")
    verb.add_argument("--rpm", type=float, help="shaft speed in turns per minute")
    bearing = verb.add_mutually_exclusive_group()
    bearing.add_argument("--bearing", help=f"one of {', '.join(LIBRARY)}")
    bearing.add_argument("--orders", help="ftf=..,bsf=..,bpfo=..,bpfi=.. as multiples of shaft speed")
    verb.add_argument("--unit", choices=["g", "m/s2", "mm/s"], help="what a sample measures; without it no ISO figure")
    verb.add_argument("--channel", type=int, default=0, help="counted from 0")
    verb.add_argument("--variable", help="the channel's name, where a file has names (MAT, Parquet, CSV)")
    verb.add_argument("--machine", choices=sorted(LIMITS), help="group or class for the severity zone")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 2 what was asked cannot be done: every mistake on stderr (and as JSON when asked for)."""
    given = parser().parse_args(arguments)
    keep_freed_memory()
    try:
        return _VERBS[given.verb](given)
    except DocumentError as error:
        if given.json:
            _say(json.dumps({"refused": [dataclasses.asdict(problem) for problem in error.problems]}))
        sys.stderr.write(f"{error}\n")
        return 2


# ---------------------------------------------------------------- analyse


def _analyse(given: argparse.Namespace) -> int:
    orders = _asked_orders(given)
    record = _read(given, given.file)
    findings = check(record, orders)
    refused = refusals(findings, Effect.REFUSED)
    if refused:
        raise DocumentError([Problem(str(given.file), one.kind, one.what, one.remedy) for one in refused])
    features = screen(record, findings)
    severity, why_not = _severity(features, given)
    signs = indicators(record, teeth=given.teeth, mains_hz=given.mains)
    diagnosis = diagnose(record, orders) if orders is not None else None
    if given.picture is not None:
        _draw(given.picture, record, orders, diagnosis)
    answer = {
        "file": given.file.name,
        "rate_hz": record.rate_hz,
        "seconds": round(record.seconds, 6),
        "rpm": record.rpm,
        "unit": record.unit.value if record.unit is not None else None,
        "features": features_json(features),
        "severity": zone_json(severity) if severity is not None else {"zone": None, "why": why_not},
        "indicators": [dataclasses.asdict(one) for one in signs],
        "diagnosis": diagnosis_json(diagnosis) if diagnosis is not None else None,
        "quality": [finding_json(one) for one in findings],
    }
    if given.json:
        _say(json.dumps(plain(answer), allow_nan=False))
    else:
        _say("\n".join(_text(record, features, severity, why_not, signs, diagnosis, findings)))
    return 0


def _read(given: argparse.Namespace, file: Path) -> Record:
    return files.read(
        file,
        rate_hz=given.rate,
        rpm=given.rpm,
        unit=unit_of(given.unit),
        channel=given.channel,
        variable=given.variable,
    )


def _draw(path: Path, record: Record, orders: Orders | None, diagnosis: Diagnosis | None) -> None:
    if orders is None or diagnosis is None:
        raise DocumentError([Problem("--picture", "", "there is no diagnosis to draw", "name the bearing")])
    try:
        path.write_text(evidence_svg(record, orders, diagnosis), encoding="utf-8")
    except OSError as error:
        raise DocumentError([Problem(str(path), "", f"cannot be written: {error.strerror or error}")]) from error


def _asked_orders(given: argparse.Namespace) -> Orders | None:
    if given.bearing is not None:
        return by_name(given.bearing)
    if given.orders is None:
        return None
    values: dict[str, float] = {}
    problems = []
    for part in given.orders.split(","):
        name, _, text = part.partition("=")
        try:
            values[name.strip().lower()] = float(text)
        except ValueError:
            problems.append(Problem("--orders", part[:60], "expected name=number", f"names: {', '.join(NAMES)}"))
    if problems:
        raise DocumentError(problems)
    return check_orders(values, where="--orders")


def _severity(features: Features, given: argparse.Namespace) -> tuple[Zone | None, str]:
    if features.velocity_mm_s is None:
        return None, features.velocity_missing
    if given.machine is None:
        return None, "the machine's group or class is not declared (--machine)"
    try:
        return zone(features.velocity_mm_s, LIMITS[given.machine], given.rpm), ""
    except DocumentError as error:
        return None, "; ".join(problem.what for problem in error.problems)


# ---------------------------------------------------------------- diagnose


def _diagnose(given: argparse.Namespace) -> int:
    answers = [_one(entry, index, given.list) for index, entry in enumerate(_entries(given.list))]
    if given.json:
        _say(json.dumps(plain(answers), allow_nan=False))
    else:
        for answer in answers:
            why = answer["evidence"]["why"]
            _say(f"{answer['id']}: {answer['fault']}  confidence {answer['confidence']:.2f}  {why}")
    return 0


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DocumentError([Problem(str(path), "", f"larger than {MAX_LIST_BYTES} bytes")])
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise DocumentError([Problem(str(path), "", f"cannot be read: {error.strerror or error}")]) from error
    except (ValueError, RecursionError) as error:
        raise DocumentError([Problem(str(path), "", f"no JSON: {error}")]) from error
    if not isinstance(entries, list) or len(entries) > MAX_LISTED:
        raise DocumentError([Problem(str(path), "", f"expected a list of up to {MAX_LISTED} records")])
    return entries


def _one(entry: Any, index: int, path: Path) -> dict[str, Any]:
    """One answer, whatever the entry holds."""
    name = entry.get("id", str(index)) if isinstance(entry, Mapping) else str(index)
    try:
        record, orders = _listed(entry, index, path)
    except DocumentError as error:
        refused = [dataclasses.asdict(problem) for problem in error.problems]
        why = "; ".join(f"{problem.path}: {problem.what}".lstrip(": ") for problem in error.problems)
        evidence = {"verdict": Verdict.CANNOT_JUDGE.value, "why": why, "refused": refused}
        return {"id": name, "fault": "N", "confidence": 0.0, "evidence": evidence}
    try:
        found = diagnosis_json(diagnose(record, orders))
    except Exception as error:  # noqa: BLE001 - top of the loop: our bug on one record must not cost the others
        evidence = {"verdict": Verdict.CANNOT_JUDGE.value, "why": f"a bug of ours: {error!r}", "refused": []}
        return {"id": name, "fault": "N", "confidence": 0.0, "evidence": evidence}
    return {"id": name, "fault": found.pop("fault"), "confidence": found.pop("confidence"), "evidence": found}


def _listed(entry: Any, index: int, path: Path) -> tuple[Record, Orders]:
    where = f"{path.name}[{index}]"
    if not isinstance(entry, Mapping):
        raise DocumentError([Problem(where, "", "a record is an object", "id, file, rate, rpm, orders, unit")])
    problems: list[Problem] = []  # keys that are not known are someone else's: machines write these lists

    def number(key: str) -> float | None:
        value = entry.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(Problem(where, key, f"{value!r} is not a number"))
            return None
        return float(value)

    rate, rpm = number("rate"), number("rpm")
    orders = unit = None
    try:
        given = entry.get("orders")
        if isinstance(given, Mapping):
            named = {str(k).lower(): v for k, v in given.items()}
            known = {name: named[name] for name in NAMES if named.get(name) is not None}
            orders = check_orders(completed(known), where=f"{where}.orders")
        elif isinstance(entry.get("bearing"), str):
            orders = by_name(entry["bearing"])
        else:
            problems.append(Problem(where, "orders", "the bearing's orders are missing", "ftf, bsf, bpfo, bpfi"))
    except DocumentError as error:
        problems += error.problems
    try:
        unit = unit_of(entry.get("unit") if isinstance(entry.get("unit"), str) else None, where=where)
    except DocumentError:
        unit = None  # a diagnosis does not hang on the unit; what does is refused without one
    channel = entry.get("channel", 0)
    if isinstance(channel, bool) or not isinstance(channel, int):
        problems.append(Problem(where, "channel", f"{channel!r} is no channel", "counted from 0"))
        channel = 0
    name = entry.get("file")
    if not isinstance(name, str) or not name:
        problems.append(Problem(where, "file", "the file's name is missing"))
    if problems or orders is None or not isinstance(name, str):
        raise DocumentError(problems)
    beside = path.parent / name
    file = beside if beside.exists() or not Path(name).exists() else Path(name)
    variable = entry.get("variable") if isinstance(entry.get("variable"), str) else None
    return files.read(file, rate_hz=rate, rpm=rpm, unit=unit, channel=channel, variable=variable), orders


# ---------------------------------------------------------------- export


def _export(given: argparse.Namespace) -> int:
    """Records that cannot be read are told all at once, and nothing is written."""
    orders = _asked_orders(given)
    plan = AssetPlan(bearings={} if orders is None else {given.bearing or "bearing": orders}, zone=given.machine)
    documents: list[VibrationAsset] = []
    problems: list[Problem] = []
    for file in given.file:
        try:
            documents += _documents(file) if file.suffix in (".json", ".jsonl") else [_document(given, file, plan)]
        except DocumentError as error:
            problems += error.problems
    if given.format == "parquet" and given.out is None:
        problems.append(Problem("--out", "", "Parquet is no text", "name a file"))
    if problems:
        raise DocumentError(problems)
    table = export.mimosa(documents) if given.format == "mimosa" else export.rows(documents)
    try:
        if given.format == "parquet":
            parquet.write(given.out, table)
        elif given.out is not None:
            given.out.write_text(export.csv_text(table), encoding="utf-8")
        else:
            sys.stdout.write(export.csv_text(table))
    except (ValueError, OSError) as error:
        raise DocumentError([Problem(str(given.out or "stdout"), "", str(error))]) from error
    return 0


def _document(given: argparse.Namespace, file: Path, plan: AssetPlan) -> VibrationAsset:
    record = _read(given, file)
    told = tell(plan, Asset(), record, days=0.0)
    return product(file.stem, file.stem, file.name, record, told)


def _documents(file: Path) -> list[VibrationAsset]:
    try:
        data = file.read_bytes()
        lines = data.splitlines() if file.suffix == ".jsonl" else [data]
        found: list[VibrationAsset] = []
        for line in lines:
            if line.strip():
                said = msgspec.json.decode(line, type=VibrationAsset | list[VibrationAsset])
                found += said if isinstance(said, list) else [said]
    except OSError as error:
        raise DocumentError([Problem(str(file), "", f"cannot be read: {error.strerror or error}")]) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DocumentError([Problem(str(file), "", f"no VibrationAsset: {error}")]) from error
    return found


def _schema(_: argparse.Namespace) -> int:
    _say(json.dumps(schema(), indent=2))
    return 0


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "analyse": _analyse,
    "diagnose": _diagnose,
    "export": _export,
    "schema": _schema,
}


# ---------------------------------------------------------------- words and JSON


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _text(
    record: Record,
    features: Features,
    severity: Zone | None,
    why_not: str,
    signs: Sequence[Indicator],
    diagnosis: Diagnosis | None,
    findings: Sequence[Finding],
) -> list[str]:
    unit = record.unit.value if record.unit is not None else "(no unit)"
    lines = [f"{record.source}: {record.seconds:.3g} s at {record.rate_hz:g} Hz, {record.rpm or '?'} rpm"]
    lines += [f"  {one.effect.value}: {one.what} ({one.remedy})" for one in findings]
    lines.append(
        f"rms {features.rms:.4g} {unit}  peak {features.peak:.4g}  crest {features.crest:.2f}  "
        f"kurtosis {features.kurtosis:.2f}"
    )
    if features.velocity_mm_s is not None:
        lines.append(f"velocity {features.velocity_mm_s:.3f} mm/s rms, 10-1000 Hz")
    if severity is not None:
        lines.append(f"zone {severity.name} of {severity.limits.edition}, {severity.limits.machine}")
    else:
        lines.append(f"no zone: {why_not}")
    lines += [f"{one.name}: {one.evidence}" for one in signs]
    if diagnosis is None:
        lines.append("no diagnosis: name the bearing (--bearing or --orders)")
    else:
        answer = diagnosis.part.value if diagnosis.verdict is not Verdict.CANNOT_JUDGE else "-"
        lines.append(f"bearing: {diagnosis.verdict.value} [{answer}], confidence {diagnosis.confidence:.2f}")
        lines.append(f"  {diagnosis.why}")
        lines += [f"  {one.name:8} {one.hz:9.2f} Hz  {one.above:5.1f} dB  depth {one.depth:.3f}"
                  for one in diagnosis.lines]  # fmt: skip
    return lines
