"""The audit log of a real centre: every act in it, provable, and forgery of its database found from a site's disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from typer.testing import CliRunner

from manifests.audit import TreeHead, verify_lines
from manifests.merkle import leaf_hash, verify_consistency, verify_inclusion
from orchestrator.cli.app import app


def sluice(orchestrator: Any, *words: str) -> tuple[int, str]:
    token = orchestrator.operator().headers["Authorization"].removeprefix("Bearer ")
    environment = {"SLUICE_SERVER": orchestrator.operator_url, "SLUICE_TOKEN": token}
    result = CliRunner().invoke(app, ["audit", *words], env=environment)
    return result.exit_code, result.output


def test_acts_of_people_are_in_the_log_and_every_entry_is_proven(orchestrator: Any, enroller: Any, lab: Any) -> None:
    operator = orchestrator.operator()
    lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    enroller.enrol(operator, "hamburg")
    assert operator.post("/rollouts", json={"reason": "because of the audit"}).status_code == 201
    entries = operator.get("/audit", params={"first": 0, "limit": 1000}).json()
    kinds = {entry["kind"] for entry in entries}
    assert {"password-set", "catalog-published", "fleet-applied", "node-enrolled", "rollout-started"} <= kinds
    started = next(entry for entry in entries if entry["kind"] == "rollout-started")
    assert started["actor"] == "admin"
    assert "because of the audit" in started["text"]
    head = operator.get("/audit/head").json()
    assert head["size"] == len(entries)
    for entry in entries:
        params = {"number": entry["number"], "size": head["size"]}
        proof = [bytes.fromhex(h) for h in operator.get("/audit/inclusion", params=params).json()["hashes"]]
        leaf = leaf_hash(entry["entry"].encode())
        assert verify_inclusion(leaf, entry["number"], head["size"], proof, bytes.fromhex(head["root"]))
    old = operator.get("/audit/head", params={"size": 2}).json()
    params = {"old": 2, "new": head["size"]}
    proof = [bytes.fromhex(h) for h in operator.get("/audit/consistency", params=params).json()["hashes"]]
    assert verify_consistency(2, bytes.fromhex(old["root"]), head["size"], bytes.fromhex(head["root"]), proof)
    assert operator.get("/audit/inclusion", params={"number": 10**9, "size": 3}).status_code == 404
    assert operator.get("/audit/consistency", params={"old": 5, "new": 10**9}).status_code == 404


def test_the_export_is_checked_by_the_command_and_a_changed_line_is_found(orchestrator: Any, tmp_path: Path) -> None:
    out = tmp_path / "audit.jsonl"
    assert sluice(orchestrator, "export", str(out), "--proofs")[0] == 0
    assert sluice(orchestrator, "verify", "--file", str(out))[0] == 0
    assert sluice(orchestrator, "verify")[0] == 0
    lines = out.read_text().splitlines()
    changed = json.loads(lines[0])
    changed["entry"] = changed["entry"].replace("password-set", "password-seen")
    out.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    code, said = sluice(orchestrator, "verify", "--file", str(out), "--json")
    assert code == 1
    assert json.loads(said)["findings"][0] == {"where": "line 1", "what": "its proof does not hold"}
    table = tmp_path / "audit.csv"
    assert sluice(orchestrator, "export", str(table), "--format", "csv")[0] == 0
    assert table.read_text().startswith("number,at_ns,kind,actor")


def test_the_database_refuses_to_change_or_delete_entries(orchestrator: Any) -> None:
    engine = create_engine(orchestrator.settings.database.replace("postgresql:", "postgresql+psycopg:"))
    for statement in ("UPDATE audit_entry SET entry = 'x'", "DELETE FROM audit_entry", "DELETE FROM audit_node"):
        with pytest.raises(SQLAlchemyError, match="only grows"), engine.begin() as conn:
            conn.execute(text(statement))
    engine.dispose()


def test_a_forger_with_the_whole_database_is_found_by_the_head_a_site_holds(
    orchestrator: Any, enroller: Any, lab: Any
) -> None:
    operator = orchestrator.operator()
    digest = lab.publish(orchestrator, operator)
    lab.apply_fleet(operator, lab.fleet_documents())
    node = enroller.enrol(operator, "hamburg")
    node.obey(digest)
    stamp = json.loads(node.sync().director["timestamp.json"])["signed"]
    witnessed = TreeHead(**stamp["x-log"])
    assert witnessed.size > 0
    lines = [entry["entry"] for entry in operator.get("/audit", params={"first": 0, "limit": 1000}).json()]
    assert verify_lines(lines, [witnessed])[1] == []
    forged = [line.replace("fleet-applied", "fleet-removed") for line in lines]
    assert verify_lines(forged, [witnessed])[1]
