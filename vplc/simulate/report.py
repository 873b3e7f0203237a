"""The reports of simulation and commissioning: a stable format that signed releases carry. Pure.

`vplc.simulation/1`   one project simulated: hashes of all that went in, every check with what was measured
`vplc.commission/1`   unit tests, that simulation and the libraries that were built from the very same sources

A report holds no time of day, no speed and no path of the machine: the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vplc.scan.values import Json

SIMULATION = "vplc.simulation/1"
COMMISSION = "vplc.commission/1"


def passed(report: object) -> bool:
    """Whether a report of either format says that everything it was asked for holds. Looks at the parts, not only at
    the verdict, and is False for any other document, an empty one and one without a single check."""
    if not isinstance(report, Mapping) or report.get("passed") is not True:
        return False
    if report.get("format") == SIMULATION:
        checks = report.get("checks")
        return report.get("fault") is None and _all(checks)
    if report.get("format") == COMMISSION:
        tests, builds = report.get("tests"), report.get("builds")
        simulation, source = report.get("simulation"), report.get("source_sha256")
        return (
            _all(tests)
            and isinstance(simulation, Mapping)
            and simulation.get("format") == SIMULATION
            and passed(simulation)
            and isinstance(source, str)
            and simulation.get("source_sha256") == source
            and isinstance(builds, Sequence)
            and len(builds) > 0
            and all(isinstance(b, Mapping) and b.get("source_sha256") == source for b in builds)
        )
    return False


def _all(rows: object) -> bool:
    return (
        isinstance(rows, Sequence)
        and len(rows) > 0
        and all(isinstance(row, Mapping) and row.get("passed") is True for row in rows)
    )


def dumps(report: Mapping[str, Json]) -> str:
    """The bytes that are hashed and signed: sorted keys, no spaces to differ in."""
    return json.dumps(report, sort_keys=True, indent=1, allow_nan=False)


def render_checks(report: Mapping[str, Json]) -> list[str]:
    """A table for people."""
    rows = report.get("checks")
    assert isinstance(rows, list)
    cells = [("PASS" if r["passed"] else "FAIL", str(r["name"]), str(r["wanted"]), str(r["text"])) for r in rows]  # type: ignore[call-overload,index]
    widths = [max(len(c[i]) for c in [("", "check", "wanted", "measured"), *cells]) for i in range(3)]
    out = [f"{'':4}  {'check':{widths[1]}}  {'wanted':{widths[2]}}  measured"]
    out.extend(f"{a:4}  {b:{widths[1]}}  {c:{widths[2]}}  {d}" for a, b, c, d in cells)
    return out


def render_fault(fault: Mapping[str, Json]) -> str:
    place = f"{fault['pou']} ({fault['file']}:{fault['line']}): " if fault.get("pou") else ""
    return f"FAULT in the {fault['where']} at {fault['time_s']} s: {place}{fault['message']}"
