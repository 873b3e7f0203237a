"""No route is open by mistake: the OpenAPI document is walked, and every route is called as every role."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI

from orchestrator.api.callers import check_routes, needs, open_to_all
from orchestrator.api.operator import build_operator_app
from orchestrator.people.permissions import Permission
from tests.integration.orchestrator import conftest as lab
from tests.integration.people.conftest import People, role

# Who may call what, written down by hand: v viewer, o operator, t OT engineer, i IT engineer, a admin.
EVERYBODY, MOVES, ENGINEERS = "votia", "oti", "ti"
OPEN = "open"
EXPECTED = {
    "get /session": OPEN,
    "post /session": OPEN,
    "post /setup": OPEN,
    "post /tokens": OPEN,
    "get /oidc": OPEN,
    "get /oidc/callback": OPEN,
    "delete /session": EVERYBODY,
    "get /account": EVERYBODY,
    "put /account/password": EVERYBODY,
    "post /account/second-factor": EVERYBODY,
    "post /account/second-factor/confirmation": EVERYBODY,
    "post /account/second-factor/removal": EVERYBODY,
    "get /account/tokens": EVERYBODY,
    "post /account/tokens": EVERYBODY,
    "delete /account/tokens/{token_id}": EVERYBODY,
    "get /accounts": "a",
    "post /accounts": "a",
    "put /accounts/{user}/roles": "a",
    "post /accounts/{user}/disable": "a",
    "post /accounts/{user}/enable": "a",
    "post /accounts/{user}/reset": "a",
    "post /accounts/{user}/removal": "a",
    "get /about": EVERYBODY,
    "get /sites": EVERYBODY,
    "get /sites/{site}": EVERYBODY,
    "get /sites/{site}/values": EVERYBODY,
    "get /sites/{site}/sparklines": EVERYBODY,
    "get /sites/{site}/history": EVERYBODY,
    "get /sites/{site}/streams": EVERYBODY,
    "post /sites/{site}/tokens": "i",
    "get /sites/{site}/renewals": EVERYBODY,
    "post /sites/{site}/nodes/{node}/renewal": "i",
    "get /sites/{site}/instances/{instance}/parameters": EVERYBODY,
    "put /sites/{site}/instances/{instance}/parameters": "t",
    "post /sites/{site}/instances/{instance}/inquiries": EVERYBODY,
    "get /sites/{site}/instances/{instance}/secrets": EVERYBODY,
    "put /sites/{site}/instances/{instance}/secrets/{name}": "t",
    "post /sites/{site}/instances/{instance}/secrets/{name}/removal": "t",
    "get /events": EVERYBODY,
    "get /live": EVERYBODY,
    "get /fleet": EVERYBODY,
    "post /fleet": MOVES,
    "post /fleet/diff": EVERYBODY,
    "get /releases": EVERYBODY,
    "get /catalog": EVERYBODY,
    "post /catalog": ENGINEERS,
    "head /blobs/sha256/{digest}": EVERYBODY,
    "get /blobs/sha256/{digest}": EVERYBODY,
    "put /blobs/sha256/{digest}": ENGINEERS,
    "get /rollouts": EVERYBODY,
    "post /rollouts": MOVES,
    "get /rollouts/preview": EVERYBODY,
    "get /rollouts/{rollout_id}": EVERYBODY,
    "post /rollouts/{rollout_id}/approvals": MOVES,  # whose side it is, the route looks at
    "post /rollouts/{rollout_id}/pause": MOVES,
    "post /rollouts/{rollout_id}/resume": MOVES,
    "post /rollouts/{rollout_id}/abort": MOVES,
    "get /audit": EVERYBODY,
    "get /audit/head": EVERYBODY,
    "get /audit/inclusion": EVERYBODY,
    "get /audit/consistency": EVERYBODY,
    "get /audit/export": EVERYBODY,
}
LETTERS = {"v": "viewer", "o": "operator", "t": "ot-engineer", "i": "it-engineer", "a": "admin"}
PATHS = {
    "site": "hamburg",
    "instance": "pump",
    "digest": "0" * 64,
    "rollout_id": "1",
    "token_id": "0" * 16,
    "user": "x",
    "name": "key",
    "node": "edge1",
}


def routes(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(m, p, o) for p, methods in document["paths"].items() for m, o in methods.items()]


def call(client: httpx.Client, method: str, path: str) -> int:
    """Once, with as little as it takes to get past the door; streams are left at once."""
    filled = re.sub(r"\{(\w+)\}", lambda found: PATHS[found[1]], path).removeprefix("/api/v1")
    body: dict[str, Any] = {"json": {}} if method in ("post", "put") else {}
    with client.stream(method, filled, **body) as answer:
        return answer.status_code


def test_the_document_holds_exactly_the_routes_that_are_written_down_here() -> None:
    document = build_operator_app().openapi()
    assert {f"{method} {path.removeprefix('/api/v1')}" for method, path, _ in routes(document)} == EXPECTED.keys()
    for method, path, operation in routes(document):
        is_open = EXPECTED[f"{method} {path.removeprefix('/api/v1')}"] == OPEN
        assert (operation["x-permission"] == "open") == is_open
        assert ("security" in operation) != is_open, (method, path)
        assert is_open == bool(operation.get("x-open-because"))


def test_every_route_answers_every_role_as_the_table_says(people: People) -> None:
    lab.publish(people.running, people.admin)
    lab.apply_fleet(people.admin, lab.fleet_documents())
    document = people.admin.get("/../../openapi.json").json()
    callers = {letter: people.person(f"the-{word}", word).client for letter, word in LETTERS.items()}
    callers["n"] = people.person("nobody").client  # an account without any role
    wrong = []
    for method, path, _ in routes(document):
        allowed = EXPECTED[f"{method} {path.removeprefix('/api/v1')}"]
        if allowed == OPEN:
            continue
        anonymous = call(people.client(), method, path)
        if anonymous != 401:
            wrong.append(("anonymous", method, path, anonymous))
        own = ("/account" in path and "/accounts" not in path) or path.endswith("/session")
        for letter, client in callers.items():
            status = call(client, method, path)
            may = letter in allowed or (letter == "n" and own)
            if (status == 403) == may or status == 401 or status >= 500:
                wrong.append((letter, method, path, status))
    assert wrong == []


def test_the_metrics_want_a_token_that_may_look_at_every_site(people: People) -> None:
    def scrape(client: httpx.Client) -> int:
        return client.get(f"{people.running.operator_url}/metrics").status_code

    anonymous = people.client()
    assert scrape(anonymous) == 401
    assert scrape(people.person("ada", ("viewer", {"sites": ["hamburg"]})).client) == 403
    token = people.admin.post("/account/tokens", json={"name": "prometheus", "roles": [role("viewer")]}).json()["token"]
    assert scrape(people.client(token)) == 200
    assert anonymous.get(f"{people.running.operator_url}/readyz").status_code == 200  # for whoever starts it


def test_a_route_without_a_permission_ends_the_start() -> None:
    forgotten, twice, right = APIRouter(), APIRouter(), APIRouter()
    forgotten.get("/x", dependencies=[Depends(lambda: None)])(lambda: None)
    twice.get("/x", dependencies=[open_to_all("why"), needs(Permission.LOOK)])(lambda: None)
    right.get("/x", dependencies=[open_to_all("why")])(lambda: None)
    for router, good in ((forgotten, False), (twice, False), (right, True)):
        outer = APIRouter()
        outer.include_router(router, prefix="/deep")
        app = FastAPI(docs_url=None, redoc_url=None)
        app.include_router(outer, prefix="/api")
        if good:
            check_routes(app.routes)
        else:
            with pytest.raises(RuntimeError, match="permissions; one is needed"):
                check_routes(app.routes)
    mounted = FastAPI(docs_url=None, redoc_url=None)
    mounted.mount("/files", FastAPI())
    with pytest.raises(RuntimeError, match="cannot declare"):
        check_routes(mounted.routes)
