"""One person's signature: read what it may do, type its name, and only metadata leaves the machine."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from manifests import ceremony
from manifests.catalog import CatalogEditor
from manifests.differences import changed, differences
from manifests.errors import DocumentError, SluiceError, TrustError
from manifests.kits import PUBLIC_SUFFIX
from manifests.model import Conduit, Control, Resources, WorkloadClass, WorkloadRelease, WriteGrant
from manifests.policy import Approver
from manifests.signing import release_bytes, release_digest
from orchestrator.cli.app import app
from tests.support.releases import a_release

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PATH = "control/tank/1.0.0/release.json"


def control_release(version: str = "1.0.0", **changes: object) -> WorkloadRelease:
    limits = {"type": "object", "properties": {"setpoint": {"type": "number", "minimum": 400, "maximum": 1500}}}
    fields: dict[str, object] = {
        "control": Control(period_ms=10.0, jitter_p999_us=500.0, watchdog_ms=50.0, max_stop_ms=2000.0),
        "conduits": (Conduit(segment="ot", purpose="remote I/O", ports=(502,)),),
        "writes": (WriteGrant(segment="ot", protocol="modbus", target="tank-io", points=("coil 0-2",)),),
        "config_schema": limits,
    }
    return a_release("tank", version, WorkloadClass.CONTROL, **{**fields, **changes})


class Desk:
    """One engineer's machine: a kit for one role, and a folder with the public catalog."""

    def __init__(self, folder: Path) -> None:
        ceremony.init_keys(folder / "keys", server_names=["localhost"], now=NOW)
        self.all = folder / "keys" / "offline"
        self.catalog = folder / "catalog"
        shutil.copytree(folder / "keys" / "online" / "catalog", self.catalog)
        self.folder = folder
        self.blobs = folder / "builds" / "blobs"
        self.blobs.mkdir(parents=True)

    def publish(self, release: WorkloadRelease) -> None:
        place = self.blobs.parent / f"{release.name}-{release.version}"
        place.mkdir()
        (place / "release.json").write_bytes(release_bytes(release))
        editor = CatalogEditor.open(self.catalog, self.all)
        editor.add(release)
        for name, data in editor.sign(NOW).items():
            (self.catalog / name).write_bytes(data)

    def kit(self, *names: str) -> Path:
        folder = self.folder / f"kit-{'-'.join(names)}"
        folder.mkdir()
        shutil.copy(self.all / "catalog.root.json", folder)
        for name in names:
            shutil.copy(self.all / f"{name}.pem", folder)
            shutil.copy(self.all / f"{name}{PUBLIC_SUFFIX}", folder)
        return folder

    def sign(self, *words: str, answer: str = "", keys: Path | None = None) -> str:
        """The command's output. Raises what the command raises."""
        fixed = ["--keys", str(keys or self.all), "--catalog", str(self.catalog), "--blobs", str(self.blobs)]
        result = CliRunner().invoke(app, ["sign", *words, *fixed], input=f"{answer}\n")
        if isinstance(result.exception, SluiceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    @property
    def editor(self) -> CatalogEditor:
        return CatalogEditor.open(self.catalog, self.all)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    found = Desk(tmp_path)
    found.publish(control_release())
    return found


def test_what_is_signed_is_shown_first_and_its_name_must_be_typed(desk: Desk) -> None:
    said = desk.sign("tank", "1.0.0", "--as", "ot", "--skip-blobs", answer="tank 1.0.0", keys=desk.kit("approve-ot"))
    for wanted in (
        release_digest(release_bytes(control_release())), "calls tcp 502 in ot (remote I/O)",
        "may write modbus tank-io (ot): coil 0-2", "scans every 10 ms",
        'config.setpoint: type "number", minimum 400, maximum 1500', "Still needed before any site runs it: IT",
    ):  # fmt: skip
        assert wanted in said
    assert desk.editor.approved(PATH) == (Approver.OT,)
    assert desk.editor.lacking(PATH) == (Approver.IT,)


def test_another_answer_signs_nothing(desk: Desk) -> None:
    before = sorted(desk.catalog.iterdir())
    with pytest.raises(DocumentError):
        desk.sign("tank", "1.0.0", "--as", "ot", "--skip-blobs", answer="yes", keys=desk.kit("approve-ot"))
    assert sorted(desk.catalog.iterdir()) == before


def test_two_people_with_a_kit_each_make_a_release_complete(desk: Desk) -> None:
    desk.sign("tank", "1.0.0", "--as", "it", "--yes", "--skip-blobs", keys=desk.kit("approve-it"))
    words = ("--name", "Anna Ott", "--meaning", "reviewed and tested", "--yes", "--skip-blobs", "--json")
    said = desk.sign("tank", "1.0.0", "--as", "ot", *words, keys=desk.kit("approve-ot"))
    assert json.loads(said)["lacking"] == []
    assert desk.editor.approved(PATH) == (Approver.OT, Approver.IT)
    newest = max(desk.catalog.glob("*.approve-ot.json"), key=lambda path: int(path.name.split(".")[0]))
    (target,) = json.loads(newest.read_bytes())["signed"]["targets"].values()  # what the signature covers
    approval = json.loads(target["custom"]["approval"])
    assert (approval["name"], approval["meaning"]) == ("Anna Ott", "reviewed and tested")
    assert datetime.fromisoformat(approval["at"]).tzinfo is not None
    assert f"sha256:{target['hashes']['sha256']}" == release_digest(release_bytes(control_release()))


@pytest.mark.parametrize(("kit", "side"), [("approve-it", "ot"), ("approve-ot", "it"), ("publisher", "ot")])
def test_a_kit_signs_for_its_own_side_only(desk: Desk, kit: str, side: str) -> None:
    with pytest.raises(TrustError) as caught:
        desk.sign("tank", "1.0.0", "--as", side, "--yes", "--skip-blobs", keys=desk.kit(kit))
    assert caught.value.kind == "threshold"
    assert desk.editor.approved(PATH) == ()


def test_a_release_whose_bytes_were_exchanged_is_not_signed(desk: Desk) -> None:
    place = desk.blobs.parent / "tank-1.0.0" / "release.json"
    place.write_bytes(release_bytes(control_release(description="other")))
    with pytest.raises(SluiceError):
        desk.sign("tank", "1.0.0", "--as", "ot", "--yes", "--skip-blobs")


def test_an_image_whose_bytes_were_exchanged_is_not_signed(desk: Desk) -> None:
    (desk.blobs / ("a" * 64)).write_bytes(b"abc")
    with pytest.raises(TrustError) as caught:
        desk.sign("tank", "1.0.0", "--as", "ot", "--yes")
    assert caught.value.kind == "bad-digest"


def test_the_next_version_shows_what_changed_against_the_one_approved_before(desk: Desk) -> None:
    desk.sign("tank", "1.0.0", "--as", "ot", "--yes", "--skip-blobs")
    grant = WriteGrant(segment="ot", protocol="modbus", target="tank-io", points=("*",))
    desk.publish(control_release("1.1.0", writes=(grant,)))
    said = desk.sign("tank", "1.1.0", "--as", "ot", "--skip-blobs", answer="tank 1.1.0")
    assert "against 1.0.0" in said
    assert re.search(r"- may write modbus tank-io \(ot\): coil 0-2", said)
    assert re.search(r"\+ may write modbus tank-io \(ot\): \*", said)
    assert re.search(r"= calls tcp 502", said)


def test_ot_consents_to_a_stop_with_its_reason(desk: Desk) -> None:
    with pytest.raises(DocumentError) as caught:
        desk.sign("--consent", "hamburg")
    assert len(caught.value.problems) == 3
    desk.sign("--consent", "hamburg/tank", "--generation", "7", "--why", "line 2 is scrapped", answer="hamburg/tank")
    (said,) = desk.editor.consents("hamburg")
    assert (said.instance, said.generation, said.why) == ("tank", 7, "line 2 is scrapped")
    assert desk.editor.consents("leipzig") == ()


def test_a_hold_is_broken_by_the_kits_of_both_sides_each_with_its_own_reason(desk: Desk) -> None:
    with pytest.raises(DocumentError) as caught:
        desk.sign("--unhold", "hamburg/../x")
    assert len(caught.value.problems) == 4
    words = ("--unhold", "hamburg/local-1a2b", "--generation", "7")
    ot, it = desk.kit("approve-ot"), desk.kit("approve-it")
    with pytest.raises(DocumentError):
        desk.sign(*words, "--as", "ot", "--why", "recall", answer="yes", keys=ot)
    with pytest.raises(TrustError):
        desk.sign(*words, "--as", "ot", "--why", "recall", "--yes", keys=it)
    said = desk.sign(*words, "--as", "ot", "--why", "recall", "--name", "Olga", answer="hamburg/local-1a2b", keys=ot)
    assert "Still needed before any site takes it: IT" in said
    assert desk.editor.broken_holds("hamburg") == ()
    said = desk.sign(*words, "--as", "it", "--why", "same here", "--name", "Ivan", "--yes", "--json", keys=it)
    assert json.loads(said)["lacking"] == []
    (broken,) = desk.editor.broken_holds("hamburg")
    assert str(broken) == "OT Olga: recall; IT Ivan: same here"


def test_an_unknown_version_names_those_that_are_here(desk: Desk) -> None:
    with pytest.raises(DocumentError) as caught:
        desk.sign("tank", "2.0.0", "--as", "ot")
    assert "versions here: 1.0.0" in caught.value.problems[0].hint


@given(st.integers(8, 65536), st.lists(st.integers(1, 65535), max_size=3, unique=True))
def test_a_release_differs_from_itself_in_nothing_and_from_a_changed_one_in_what_was_changed(
    memory: int, ports: list[int]
) -> None:
    old = control_release()
    assert changed(differences(old, old)) == []
    new = control_release(resources=Resources(memory_mb=memory), conduits=(Conduit(segment="ot", ports=tuple(ports)),))
    about = {line.about for line in changed(differences(old, new))}
    assert about == {"network"} | ({"resources"} if memory != 128 else set())
