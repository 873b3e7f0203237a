"""Every route of the OpenAPI document is called with what nobody thought of: no answer is a mistake of ours.

``SLUICE_ODD_REQUESTS`` says how many requests each route gets, of either kind; more of them belong into a nightly run.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People

EXAMPLES = int(os.environ.get("SLUICE_ODD_REQUESTS", "2"))
# The live line does not end by itself.
LEFT_OUT = {("GET", "/api/v1/live")}
TRUE_OUTAGES = {503, 504}  # of nodes that are not there; 500 and 502 are mistakes
# What exists: else most requests that are as described would end at "no such site".
EXISTS = {"site": "hamburg", "instance": "pump", "rollout_id": 1}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as-described", "wrong"])
def test_odd_requests_never_give_a_server_error(people: People, mode: GenerationMode) -> None:
    lab.publish(people.running, people.admin)
    lab.apply_fleet(people.admin, lab.fleet_documents())
    people.admin.post("/rollouts", json={"reason": "for the routes of rollouts"})
    base = people.running.operator_url
    schema = schemathesis.openapi.from_dict(httpx.get(f"{base}/openapi.json").json())
    token = {"Authorization": people.admin.headers["Authorization"]}
    statuses: dict[int, int] = {}
    broken: list[tuple[int, str, str]] = []

    def run(operation: Any) -> None:
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def try_it(case: Any) -> None:
            if mode is GenerationMode.POSITIVE:
                case.path_parameters = {name: EXISTS.get(name, v) for name, v in (case.path_parameters or {}).items()}
            answer = case.call(base_url=base, headers=token, timeout=30)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if answer.status_code >= 500 and answer.status_code not in TRUE_OUTAGES:
                broken.append((answer.status_code, case.as_curl_command(), answer.text[:500]))

        try_it()

    routes = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in LEFT_OUT:
            continue
        try:
            run(operation)
        except Exception as error:  # noqa: BLE001 - named below; one of a kind must not hide the others
            if "Unsatisfiable" not in type(error).__name__:  # a route without parameters has no wrong request
                broken.append((0, operation.label, repr(error)[:500]))
            continue
        routes += 1
    assert broken == []
    assert routes >= 20
    assert sum(statuses.values()) >= 2 * routes - 10
    if mode is GenerationMode.POSITIVE:
        assert sum(count for status, count in statuses.items() if status < 300) >= routes // 2, statuses
    assert people.admin.get("/account").status_code == 200, "the token ended on the way, and the rest was not tried"
