"""Roles are split over people, changed and rehearsed with commands that need no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manifests import ceremony, signing
from manifests.catalog import CatalogEditor
from manifests.errors import MachineError, SluiceError, TrustError
from manifests.model import WorkloadClass
from orchestrator.cli.app import app
from tests.support.releases import a_release

NOW = datetime.now(UTC)


class Office:
    def __init__(self, folder: Path) -> None:
        self.folder, self.offline = folder, folder / "keys" / "offline"
        ceremony.init_keys(folder / "keys", server_names=["localhost"], now=NOW)
        self.catalog = folder / "catalog"
        shutil.copytree(folder / "keys" / "online" / "catalog", self.catalog)
        self.root = self.offline / "catalog.root.json"

    def run(self, *words: str, answer: str = "") -> str:
        result = CliRunner().invoke(app, ["keys", *words], input=answer)
        if isinstance(result.exception, SluiceError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def person(self, name: str) -> Path:
        self.run("new", name, "--out", str(self.folder / name), "--root", str(self.root), "--no-passphrase")
        return self.folder / name

    @property
    def publisher(self) -> Path:
        return self.offline / "publisher.pub.json"

    def delegate(self, role: str, *people: Path, threshold: int = 1, bring: Sequence[Path] = ()) -> str:
        public = [str(one if one.is_file() else next(one.glob("*.pub.json"))) for one in people]
        kits = [word for kit in (self.offline, *bring) for word in ("--keys", str(kit))]
        return self.run("delegate", role, *public, *kits, "--catalog", str(self.catalog), "--threshold", str(threshold))

    def editor(self, *kits: Path) -> CatalogEditor:
        return CatalogEditor.open(self.catalog, list(kits))

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.catalog.iterdir()}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_person_with_a_kit_of_their_own_signs_for_the_role_that_was_delegated(office: Office) -> None:
    anna = office.person("anna")
    before = office.files()
    office.delegate("translator", office.publisher, anna)
    editor = office.editor(anna)
    editor.add(a_release())
    signed = editor.sign(NOW)
    assert sorted(name.split(".", 1)[1] for name in signed) == ["snapshot.json", "translator.json"]
    view = signing.verify_catalog_update(office.root.read_bytes(), before, {**office.files(), **signed}, NOW)
    assert view.root_version == 2
    assert len(view.releases) == 1


def test_whoever_lost_a_role_signs_for_it_no_longer(office: Office) -> None:
    anna, ben = office.person("anna"), office.person("ben")
    office.delegate("translator", office.publisher, anna)
    office.delegate("translator", ben, bring=[ben])
    editor = office.editor(anna)
    editor.add(a_release())
    with pytest.raises(TrustError) as caught:
        editor.sign(NOW)
    assert caught.value.kind == "threshold"


def test_two_of_two_must_bring_their_kits(office: Office) -> None:
    anna, ben = office.person("anna"), office.person("ben")
    with pytest.raises(TrustError) as caught:
        office.delegate("control", anna, ben, threshold=2)
    assert caught.value.kind == "threshold"  # what control said so far would be signed by nobody
    office.delegate("control", anna, ben, threshold=2, bring=[anna, ben])
    for kits, fine in (([anna], False), ([ben], False), ([anna, ben], True)):
        editor = office.editor(*kits)
        editor.add(a_release(name="loop", workload_class=WorkloadClass.CONTROL))
        if fine:
            assert any(name.endswith(".control.json") for name in editor.sign(NOW))
        else:
            with pytest.raises(TrustError):
                editor.sign(NOW)


def test_one_key_never_approves_for_both_sides(office: Office) -> None:
    anna = office.person("anna")
    office.delegate("approve-ot", anna, bring=[anna])
    with pytest.raises(TrustError) as caught:
        office.delegate("approve-it", anna, bring=[anna])
    assert caught.value.kind == "both-sides"


def test_keys_are_never_overwritten(office: Office) -> None:
    office.person("anna")
    with pytest.raises(MachineError):
        office.person("anna")


def test_a_root_is_rotated_by_several_people(office: Office, tmp_path: Path) -> None:
    anna, ben = office.person("anna-root"), office.person("ben-root")
    public = ",".join(str(next(person.glob("*.pub.json"))) for person in (anna, ben))
    draft, previous = str(tmp_path / "draft.json"), str(office.root)
    office.run("root", "draft", previous, "--out", draft, "--role", f"root={public}", "--threshold", "root=2")
    for kit in (office.offline, anna):
        office.run("root", "sign", draft, "--previous", previous, "--keys", str(kit))
        with pytest.raises(TrustError):  # not yet enough
            office.run("root", "finish", draft, "--previous", previous, "--out", str(office.catalog))
    office.run("root", "sign", draft, "--previous", previous, "--keys", str(ben))
    office.run("root", "finish", draft, "--previous", previous, "--out", str(office.catalog))
    assert (
        signing.verify_repository(office.root.read_bytes(), office.files(), now=NOW).root.roles["root"].threshold == 2
    )


def test_a_root_that_nobody_could_ever_sign_is_refused(office: Office, tmp_path: Path) -> None:
    with pytest.raises(TrustError) as caught:
        office.run("root", "draft", str(office.root), "--out", str(tmp_path / "d"), "--threshold", "root=2")
    assert caught.value.kind == "threshold"


def test_show_and_rehearse_say_who_may_sign_and_that_the_keys_open(office: Office) -> None:
    where = ("--keys", str(office.offline), "--catalog", str(office.catalog), "--json")
    rows = {row["role"]: row for row in json.loads(office.run("show", *where))}
    assert rows["approve-ot"]["threshold"] == 1
    assert len(rows["approve-ot"]["here"]) == 1
    assert rows["timestamp"]["here"] == []  # online
    assert "approve-ot" in json.loads(office.run("rehearse", *where))["keys"]


def test_a_rehearsal_finds_the_key_that_does_not_belong(office: Office) -> None:
    anna, ben = office.person("anna"), office.person("ben")
    shutil.copy(ben / "ben.pem", anna / "anna.pem")
    with pytest.raises(TrustError) as caught:
        office.run("rehearse", "--keys", str(anna), "--catalog", str(office.catalog))
    assert caught.value.kind == "bad-key"
