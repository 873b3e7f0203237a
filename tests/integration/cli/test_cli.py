"""The command line against a real orchestrator: what an operator types, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.stage import EXAMPLE, Stage
from tests.support.mistakes import TEN_MISTAKES


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An orchestrator with published releases and an applied fleet; no plants."""
    stage = Stage(tmp_path_factory.mktemp("cli") / "stage", "process", "0.1.0")
    try:
        stage.start_centre()
        stage.publish()
        stage.apply("first")
        yield stage
    finally:
        stage.close()


def refused(centre: Stage, *arguments: str) -> tuple[int, str]:
    code, text = centre.sluice(*arguments, check=False)
    assert code != 0, text
    assert "Traceback" not in text
    return code, " ".join(text.split())


def changed_fleet(folder: Path) -> Path:
    for path in EXAMPLE.iterdir():
        (folder / path.name).write_text(path.read_text())
    pumps = folder / "pumps.yaml"
    pumps.write_text(pumps.read_text().replace("intervalMs: 2000", "intervalMs: 4000"))
    (folder / "press.yaml").unlink()
    return folder


def test_every_listing_speaks_json(centre: Stage) -> None:
    assert {release["name"] for release in centre.sluice("release", "list")} == {
        "broker", "modbus", "opcua", "tank", "vibration",
    }  # fmt: skip
    assert {site["name"] for site in centre.sluice("site", "list")} == {"hamburg", "leipzig"}
    assert centre.sluice("site", "show", "hamburg")["summary"]["link"]["state"] == "never"
    assert centre.sluice("fleet", "show")["enterprise"] == "acme"
    assert centre.sluice("site", "values", "hamburg") == []
    assert len(centre.sluice("fleet", "validate", str(EXAMPLE))) == 7
    assert centre.sluice("schema", parse=False).startswith("{")


def test_diff_says_what_restarts_and_stops_and_changes_nothing(centre: Stage, tmp_path: Path) -> None:
    before = centre.sluice("fleet", "show")["generation"]
    diff = centre.sluice("fleet", "diff", str(changed_fleet(tmp_path)), *centre.overrides())
    actions = {(change["site"], change["instance"]): change for change in diff["changes"]}
    assert actions["hamburg", "press"]["action"] == "stop"
    assert actions["leipzig", "pumps"]["action"] == "restart"
    assert "intervalMs 2000 -> 4000" in actions["leipzig", "pumps"]["because"][0]
    assert actions["leipzig", "broker"]["action"] == "keep"
    assert centre.sluice("fleet", "show")["generation"] == before


def test_people_get_tables(centre: Stage, tmp_path: Path) -> None:
    code, text = centre.sluice("fleet", "diff", str(changed_fleet(tmp_path)), *centre.overrides(), check=False)
    assert code == 0
    assert "restart" in text
    assert "unchanged" in text
    code, text = centre.sluice("site", "list", check=False)
    assert code == 0
    assert "hamburg" in text


def test_ten_mistakes_are_told_with_their_lines_and_nothing_is_applied(centre: Stage, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEN_MISTAKES)
    before = centre.sluice("fleet", "show")["generation"]
    code, text = refused(centre, "fleet", "apply", str(wrong))
    assert code == 1
    assert text.count("wrong.yaml:") == 10
    assert centre.sluice("fleet", "show")["generation"] == before


def test_mistakes_that_only_the_centre_can_find_are_told_with_this_sides_lines(centre: Stage, tmp_path: Path) -> None:
    folder = changed_fleet(tmp_path)
    pumps = folder / "pumps.yaml"
    pumps.write_text(pumps.read_text().replace("unit: 1", "unti: 1", 1))
    line = next(n for n, text in enumerate(pumps.read_text().splitlines(), 1) if "name: pump-skid" in text)
    _, text = refused(centre, "fleet", "apply", str(folder))
    assert f"pumps.yaml:{line}" in text
    assert 'did you mean "unit"' in text


def test_a_rollout_can_be_started_paused_resumed_and_aborted(centre: Stage) -> None:
    started = centre.sluice("rollout", "start", "--policy", str(EXAMPLE / "rollout.yaml"), "--reason", "try")
    number = str(started["id"])
    assert [wave["name"] for wave in started["waves"]] == ["canary", "fleet"]
    assert started["lacking"] == ["ot", "it"]  # it touches the tank's control loop
    for side in started["lacking"]:
        centre.sluice("rollout", "approve", number, "--as", side, "--why", "try")
    states = [
        centre.sluice("rollout", verb, number, "--reason", "try")["status"]["state"]
        for verb in ("pause", "resume", "abort")
    ]
    assert states == ["Paused", "Running", "Aborted"]
    code, _ = refused(centre, "rollout", "watch", number)
    assert code == 1  # only a rollout that is done is a success
    assert centre.sluice("rollout", "list")[0]["id"] == started["id"]
    assert centre.sluice("rollout", "status")["status"]["state"] == "Aborted"


def test_a_token_is_shown_once_with_the_command_to_paste(centre: Stage) -> None:
    token = centre.sluice("site", "token", "leipzig")
    assert token["token"].startswith("sluice1.")
    assert token["token"] in token["command"]
    assert centre.sluice("site", "token", "leipzig")["token"] != token["token"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("site", "show", "nowhere"), "nowhere"),
        (("site", "token", "nowhere"), "nowhere"),
        (("rollout", "status", "999"), "999"),
        (("fleet", "apply", "/nowhere.yaml"), "no such file"),
        (
            ("release", "sign", "/nowhere", "--keys", "/nowhere", "--catalog", "/nowhere", "--passphrase-file", "/no"),
            "/no",
        ),
        (("site", "token", "hamburg", "--hours", "0"), "--hours"),
        (("rollout", "start", "--reason", ""), "reason"),
        (("release", "sign", "/nowhere", "--keys", "/nowhere", "--catalog", "/nowhere", "--yes"), "cannot read"),
    ],
)
def test_mistakes_get_a_sentence_not_a_traceback(centre: Stage, arguments: tuple[str, ...], words: str) -> None:
    code, text = refused(centre, *arguments)
    assert code in {1, 2}  # a mistake, or wrong usage
    assert words in text


def test_a_listing_for_a_program_is_not_folded(centre: Stage, tmp_path: Path) -> None:
    code, text = centre.sluice("fleet", "diff", str(changed_fleet(tmp_path)), *centre.overrides(), check=False)
    assert code == 0
    rows = [line for line in text.splitlines() if "restart" in line]
    assert len(rows) == 2
    assert all(row.rstrip().endswith("intervalMs 2000 -> 4000") for row in rows), text


def test_an_orchestrator_that_does_not_answer_is_exit_3(centre: Stage) -> None:
    code, text = refused(centre, "site", "list", "--server", "http://127.0.0.1:1")
    assert code == 3
    assert "no answer" in text


def test_the_servers_certificate_can_be_renewed_under_the_same_authority(centre: Stage) -> None:
    keys = centre.folder / "keys"
    before = (keys / "online" / "server-chain.pem").read_bytes()
    authority = (keys / "online" / "server-ca.pem").read_bytes()
    centre.sluice("keys", "renew-server", str(keys), "--server-name", "127.0.0.1")
    assert (keys / "online" / "server-chain.pem").read_bytes() != before
    assert (keys / "online" / "server-ca.pem").read_bytes() == authority


def test_a_wrong_password_is_refused(centre: Stage, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("not the password")
    code, _ = refused(centre, "login", "--server", centre.url, "--password-file", str(secret))
    assert code == 1


def test_all_that_a_build_left_can_be_signed_and_published_again(centre: Stage) -> None:
    everything = [str(path) for path in sorted((centre.folder / "releases").iterdir())]  # as `releases/*` gives it
    keys, catalog = centre.folder / "keys", str(centre.folder / "keys" / "online" / "catalog")
    signed = centre.sluice(
        "release", "sign", *everything, "--keys", str(keys / "offline"), "--catalog", catalog, "--yes"
    )
    assert len(signed["signed"]) == 5
    assert not any(signed["lacking"].values())
    assert len(centre.sluice("release", "publish", *everything, "--catalog", catalog)) == 5


def test_a_signed_version_never_changes(centre: Stage, tmp_path: Path) -> None:
    from manifests.signing import parse_release, release_bytes

    folder = centre.folder / "releases" / "modbus-0.1.0"
    import msgspec

    changed: Any = msgspec.structs.replace(parse_release((folder / "release.json").read_bytes()), description="other")
    copy = centre.folder / "releases" / "changed"
    copy.mkdir()
    (copy / "release.json").write_bytes(release_bytes(changed))
    catalog = str(centre.folder / "keys" / "online" / "catalog")
    keys = str(centre.folder / "keys" / "offline")
    code, text = refused(centre, "release", "sign", str(copy), "--keys", keys, "--catalog", catalog, "--yes")
    assert code == 1
    assert "new version" in text


def test_a_damaged_blob_is_not_signed(centre: Stage) -> None:
    release = json.loads((centre.folder / "releases" / "opcua-0.1.0" / "release.json").read_text())
    digest = release["artifacts"][0]["root"]["digest"].removeprefix("sha256:")
    blob = centre.folder / "releases" / "blobs" / digest
    data = blob.read_bytes()
    blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    try:
        catalog = str(centre.folder / "keys" / "online" / "catalog")
        keys = str(centre.folder / "keys" / "offline")
        folder = str(centre.folder / "releases" / "opcua-0.1.0")
        _, text = refused(centre, "release", "sign", folder, "--keys", keys, "--catalog", catalog, "--yes")
        assert "not what the release says" in text
    finally:
        blob.write_bytes(data)
