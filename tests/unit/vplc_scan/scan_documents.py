"""Layout documents as the compiler writes them, small ones, for tests without a compiler."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def variable(path: str, kind: str, offset: int, size: int, **more: Any) -> dict[str, Any]:
    row = {
        "path": path, "program": "P1", "type": kind, "base": kind, "offset": offset, "size": size, "bit": None,
        "direction": "local", "retain": False, "constant": False, "address": None,
    }  # fmt: skip
    return {**row, **more}


def seal(document: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in document.items() if k != "abi"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return {**plain, "abi": f"vplc-abi 1 target=x86-64 source={plain['source_sha256']} layout={digest}"}


def document(variables: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "format": 1,
        "target": "x86-64",
        "profile": "iec",
        "source_sha256": "ab" * 32,
        "state_size": 256,
        "state_align": 16,
        "retain": {"offset": 0, "size": 64},
        "header": {"offset": 64, "size": 64, "fault_site": 72, "fault_a": 80, "fault_b": 88, "loop_budget": 104},
        "areas": {
            "inputs": {"offset": 128, "size": 8},
            "outputs": {"offset": 136, "size": 8},
            "memory": {"offset": 144, "size": 8},
        },
        "symbols": {"init": "vplc_init", "run": {"P1": "vplc_run_P1", "P2": "vplc_run_P2"}},
        "programs": [
            {"name": "P1", "type": "Main", "task": "Fast", "offset": 160, "run": "vplc_run_P1"},
            {"name": "P2", "type": "Main", "task": "Slow", "offset": 200, "run": "vplc_run_P2"},
        ],
        "tasks": [
            {"name": "Slow", "interval_ns": 100_000_000, "priority": 5, "single": None},
            {"name": "Fast", "interval_ns": 10_000_000, "priority": 1, "single": None},
        ],
        "variables": variables
        if variables is not None
        else [
            variable("P1.start", "BOOL", 128, 1, bit=0, address="%IX0.0"),
            variable("P1.level", "INT", 130, 2, address="%IW1"),
            variable("P1.pump", "BOOL", 136, 1, bit=0, address="%QX0.0"),
            variable("P2.lamp", "BOOL", 136, 1, bit=1, address="%QX0.1", program="P2"),
            variable("valve", "INT", 138, 2, address="%QW1", program=None),
            variable("P1.count", "DINT", 0, 4, retain=True),
        ],
        "faults": [
            {"site": 1, "kind": "division", "message": "division by zero", "pou": "Main", "file": "a.st", "line": 7}
        ],
    }
    return seal({**base, **more})
