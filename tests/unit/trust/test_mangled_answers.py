"""Whatever happens to the bytes of an answer: either it is refused, or what comes out is exactly what was signed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import TrustError
from manifests.messages import SyncReply
from manifests.model import DesiredState
from tests.support.releases import Plant, a_release


class Told:
    """A plant that was told generation 2, with a release that is new to it."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.before = plant.good
        plant.release = plant.far.publish(a_release(version="2.0.0"))
        self.director = plant.assign(2, period_s=2.5)
        self.catalog = {
            name: plant.far.catalog[name] for name in ("timestamp.json", "3.snapshot.json", "3.translator.json")
        }
        self.after = plant.store.refresh(plant.source, plant.now)

    def outcome(self, director: dict[str, bytes], catalog: dict[str, bytes]) -> DesiredState | str:
        """On a copy of the node as it was before generation 2."""
        trust = self.plant.state / "trust"
        (trust / "accepted").unlink(missing_ok=True)  # activated is still generation 1
        self.plant.source.reply = SyncReply(catalog=catalog, director=director)
        try:
            return self.plant.open().refresh(self.plant.source, self.plant.now)
        except TrustError as error:
            assert not (trust / "accepted").exists()
            return error.kind


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(Plant(tmp_path_factory.mktemp("mangled")))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mangled_byte_changes_what_a_site_runs(told: Told, data: st.DataObject) -> None:
    files = {("director", n): d for n, d in told.director.items()} | {
        ("catalog", n): d for n, d in told.catalog.items()
    }
    place = data.draw(st.sampled_from(sorted(files)))
    changed = bytearray(files[place])
    at = data.draw(st.integers(0, len(changed) - 1))
    how = data.draw(st.sampled_from(["flip", "drop", "double", "cut"]))
    if how == "flip":
        changed[at] ^= data.draw(st.integers(1, 255))
    elif how == "drop":
        del changed[at]
    elif how == "double":
        changed.insert(at, changed[at])
    else:
        del changed[at:]
    files[place] = bytes(changed)
    director = {name: content for (part, name), content in files.items() if part == "director"}
    catalog = {name: content for (part, name), content in files.items() if part == "catalog"}
    said = told.outcome(director, catalog)
    assert isinstance(said, str) or said == told.after


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_choice_of_genuine_files_makes_a_state_that_was_never_signed(told: Told, data: st.DataObject) -> None:
    """Mix and match: every file is genuine, but not from the same moment or repository."""
    far = told.plant.far
    pool = {**told.director, **told.catalog, **{n: d for n, d in far.catalog.items() if n.startswith(("1.", "2."))}}
    names = sorted(pool)
    offered = {}
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        offered[name] = pool[data.draw(st.sampled_from([name, *names]))]
    said = told.outcome(offered, told.catalog if data.draw(st.booleans()) else {})
    assert isinstance(said, str) or said in (told.before, told.after)
