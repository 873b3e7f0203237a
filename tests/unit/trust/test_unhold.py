"""Breaking a hold takes the signed word of OT and of IT, for one hold and one generation of one site."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile, Targets

from manifests import ceremony, checking, signing
from manifests.catalog import CatalogEditor, paths_of
from manifests.errors import TrustError
from manifests.policy import Approver, Unhold, read_unhold, text_of, unhold_path
from tests.support.releases import Plant

OT, IT = Approver.OT, Approver.IT
HOLD = "local-1a2b3c4d"


def refreshed(plant: Plant) -> list[tuple[str, int]]:
    plant.assign(plant.store.refresh(plant.source, plant.now).facts.generation + 1)
    plant.store.refresh(plant.source, plant.now)
    return [(one.hold, one.generation) for one in plant.store.broken_holds()]


def test_one_side_alone_breaks_nothing(plant: Plant) -> None:
    assert refreshed(plant) == []
    plant.far.unhold(HOLD, 2, OT)
    assert refreshed(plant) == []
    plant.far.unhold(HOLD, 2, IT)
    assert refreshed(plant) == [(HOLD, 2)]
    (broken,) = plant.store.broken_holds()
    assert str(broken) == "OT ot person: recall; IT it person: recall"


def test_it_is_known_again_after_a_restart_without_a_network(plant: Plant) -> None:
    plant.far.unhold(HOLD, 2, OT, IT)
    refreshed(plant)
    store = plant.open()
    assert store.broken_holds() == ()
    store.last_good(plant.now)
    assert [one.hold for one in store.broken_holds()] == [HOLD]


def test_the_two_sides_must_mean_the_same(plant: Plant) -> None:
    plant.far.unhold(HOLD, 2, OT)
    plant.far.unhold(HOLD, 3, IT)
    assert refreshed(plant) == []
    plant.far.unhold("local-other", 2, IT)
    assert refreshed(plant) == []


def test_another_sites_hold_is_no_business_of_this_one(plant: Plant) -> None:
    plant.far.unhold(HOLD, 2, OT, IT, site="leipzig")
    assert refreshed(plant) == []


def test_neither_side_can_speak_for_the_other_whatever_it_signs(plant: Plant) -> None:
    """As if OT's own key had signed both words: the delegation's paths count."""
    plant.far.unhold(HOLD, 2, OT)
    catalog = plant.far.catalog
    name = max((n for n in catalog if n.endswith(".approve-ot.json")), key=lambda n: int(n.split(".")[0]))
    role = checking.parse(catalog[name], Targets, name).signed
    path = unhold_path(IT, "hamburg", HOLD)
    text = text_of(Unhold(site="hamburg", hold=HOLD, generation=2, why="x", name="ivan"))
    role.targets[path] = TargetFile.from_data(path, text.encode())
    role.targets[path].unrecognized_fields = {"custom": {"unhold": text}}
    verified = signing.verify_repository(catalog["1.root.json"], catalog, now=plant.now)
    forged = replace(verified, delegated={**verified.delegated, "approve-ot": role})
    assert checking.broken_holds(forged) == ()


@pytest.mark.parametrize("text", [None, "", "{}", '{"site":"a","hold":"../x","generation":1,"why":"y"}', "[" * 5000])
def test_a_word_that_cannot_be_read_is_refused_with_its_place(text: object) -> None:
    with pytest.raises(TrustError) as caught:
        read_unhold(text, "unhold/ot/a/b.json")
    assert caught.value.where == "unhold/ot/a/b.json"


def test_a_catalog_delegated_before_there_were_such_words_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    monkeypatch.setattr("manifests.catalog.paths_of", lambda role: paths_of(role)[:1])
    ceremony.init_keys(tmp_path / "keys", server_names=["localhost"], now=plant.now)
    monkeypatch.undo()
    shutil.copytree(tmp_path / "keys" / "online" / "catalog", tmp_path / "catalog")
    editor = CatalogEditor.open(tmp_path / "catalog", tmp_path / "keys" / "offline")
    with pytest.raises(TrustError) as caught:
        editor.unhold(OT, Unhold(site="hamburg", hold=HOLD, generation=2, why="recall"))
    assert "sluice keys delegate approve-ot" in caught.value.remedy
    assert editor.broken_holds("hamburg") == ()
