"""MAT and Parquet files in; tables for other systems out; what is remembered and kept."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from manifests.errors import DocumentError
from tests.simulators.bearing_signal import Fault, Machine, record
from workloads.vibration import files, mat, parquet, remembered
from workloads.vibration.asset import Asset, AssetPlan, Told, tell
from workloads.vibration.bearing import by_name
from workloads.vibration.cli import main
from workloads.vibration.evidence import PIECE_BYTES, Ring
from workloads.vibration.export import EVENTS
from workloads.vibration.product import product, schema
from workloads.vibration.record import Record, Unit
from workloads.vibration.sources.block import unpack
from workloads.vibration.trend import TrendRule

DOCS = Path(__file__).parents[3] / "workloads/vibration/docs"
PLAN = AssetPlan(bearings={"de": by_name("6205")}, zone="class1", rule=TrendRule(learn=10))
FAULTY = Machine(seconds=2.0, geometry=Machine().geometry, faults=(Fault(part="OR", level=1.0),))


def _wave(seed: int = 1, machine: Machine = FAULTY) -> Record:
    return Record(
        samples=record(machine, seed).astype(np.float32), rate_hz=12_000.0, rpm=1750.0, unit=Unit.G, start_ns=10**18
    )


def _told(count: int = 3) -> Told:
    asset = Asset()
    for seed in range(count):
        told = tell(PLAN, asset, _wave(seed), days=float(seed))
        asset = told.asset
    return told


# ---------------------------------------------------------------- MAT and Parquet


@pytest.mark.parametrize("packed", [False, True])
def test_a_mat_file_is_read_as_another_program_wrote_it(tmp_path: Path, packed: bool) -> None:
    wave = record(Machine(seconds=0.5), 1)
    path = tmp_path / "x.mat"
    more = {"rpm": 1797.0, "note": "text", "table": np.ones((70, 3))}
    scipy.io.savemat(
        path, {"DE": wave[:, None], "FE": wave.astype(np.float32)[None, :] * 2} | more, do_compression=packed
    )
    found = mat.vectors(path.read_bytes())
    assert list(found) == ["DE", "FE"]
    assert np.array_equal(found["DE"], wave)
    assert np.allclose(files.read(path, rate_hz=1.0, variable="FE").samples, 2 * wave)
    with pytest.raises(DocumentError, match="DE, FE"):
        files.read(path, rate_hz=1.0)
    with pytest.raises(DocumentError, match="does not exist"):
        files.read(path, rate_hz=1.0, variable="BA")


@pytest.mark.parametrize("cut", [0, 100, 140, 400, -7])
def test_a_damaged_mat_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"DE": np.arange(500.0)}, do_compression=False)
    path.write_bytes(path.read_bytes()[:cut] or b"x")
    with pytest.raises(DocumentError):
        files.read(path, rate_hz=1.0)


def test_an_hdf5_mat_file_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="v7"):
        mat.vectors(b"\x89HDF\r\n\x1a\n" + bytes(600))


def test_parquet_columns_are_channels_and_a_time_column_tells_the_rate(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="an extra of its own")
    path = tmp_path / "x.parquet"
    parquet.write(path, [{"time": k / 1000, "de": float(k % 7), "fe": k % 5} for k in range(500)])
    found = files.read(path, variable="fe")
    assert found.rate_hz == 1000
    assert found.samples[:6].tolist() == [0, 1, 2, 3, 4, 0]


def test_without_its_library_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DocumentError, match="vibration-files"):
        files.read(tmp_path / "x.parquet", rate_hz=1.0)


# ---------------------------------------------------------------- the data product and its tables


def test_the_schema_in_the_documentation_is_the_one_of_the_types() -> None:
    assert json.loads((DOCS / "vibration-asset.schema.json").read_text()) == json.loads(json.dumps(schema()))


def test_the_product_says_fault_zone_and_why() -> None:
    document = product("hall/motor", "motor", "r1", _wave(), _told())
    (bearing,) = document.bearings
    assert (bearing.fault, document.severity.zone, document.alert) == ("OR", document.severity.zone, "de: OR")
    assert document.severity.zone in ("A", "B", "C", "D")
    assert bearing.lines
    bare = tell(AssetPlan(bearings={}), Asset(), Record(samples=_wave().samples, rate_hz=12_000.0), days=0.0)
    without = product("t", "m", "r", _wave(), bare)
    assert without.severity.zone is None
    assert "unit" in without.severity.why


@pytest.mark.parametrize("form", ["csv", "mimosa", "parquet"])
def test_findings_are_exported(tmp_path: Path, form: str) -> None:
    for seed in range(2):
        np.save(tmp_path / f"r{seed}.npy", _wave(seed).samples)
    out = tmp_path / "table"
    asked = ["--rate", "12000", "--rpm", "1750", "--bearing", "6205", "--unit", "g", "--machine", "class1"]
    line = ["export", *(str(tmp_path / f"r{seed}.npy") for seed in range(2)), *asked, "--format", form]
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="an extra of its own")
    assert main([*line, "--out", str(out)]) == 0
    if form == "parquet":
        import pyarrow.parquet

        assert [row["fault"] for row in pyarrow.parquet.read_table(out).to_pylist()] == ["OR", "OR"]
        return
    table = list(csv.DictReader(io.StringIO(out.read_text())))
    if form == "csv":
        assert [row["fault"] for row in table] == ["OR", "OR"]
        assert float(table[0]["velocity_mm_s"]) > 0
    else:
        events = [row for row in table if row["osacbm_block"] == "AmbiguitySet"]
        assert [row["meas_loc_type"] for row in events] == [EVENTS["OR"]] * 2
        assert {row["osacbm_block"] for row in table} == {"DMReal", "HAItem", "AmbiguitySet"}


# ---------------------------------------------------------------- remembered and kept


def test_what_was_learnt_comes_back_as_it_was(tmp_path: Path) -> None:
    asset = _told(14).asset
    assert remembered.load(tmp_path) == {}
    remembered.save(tmp_path, {"motor": asset})
    assert remembered.load(tmp_path) == {"motor": asset}
    assert asset.rms.states, "a baseline was learnt"


def test_an_unreadable_memory_is_put_aside_and_learning_begins_anew(tmp_path: Path) -> None:
    (tmp_path / remembered.NAME).write_bytes(b"\xc1broken")
    assert remembered.load(tmp_path) == {}
    assert (tmp_path / "assets.unreadable").read_bytes() == b"\xc1broken"


def test_evidence_is_a_bounded_ring_handed_out_in_pieces(tmp_path: Path) -> None:
    ring = Ring(tmp_path, keep=3, keep_bytes=10 << 20)
    told = _told()
    long = Record(samples=np.random.default_rng(0).standard_normal(600_000).astype(np.float32), rate_hz=12_000.0)
    for start in range(1, 6):
        one = long if start == 5 else _wave(start)
        ring.put("mo/tor", f"r{start}", Record(samples=one.samples, rate_hz=12_000.0, start_ns=start), told)
    kept = ring.listed()
    assert {each["start_ns"] for each in kept} == {3, 4, 5}
    assert kept[0]["diagnoses"]["de"]["fault"] == "OR"
    known = next(each["id"] for each in kept if each["start_ns"] == 5)
    pieces = list(ring.pieces(known, "int16"))
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    assert len(pieces) == 2
    back = unpack(b"".join(pieces)).channels[:, 0]
    assert float(np.abs(back - long.samples).max()) < 1e-4 * float(np.abs(long.samples).max())
    assert np.array_equal(unpack(b"".join(ring.pieces(known, "float32"))).channels[:, 0], long.samples)
    for wrong in ("../x", "nothing"):
        with pytest.raises(DocumentError):
            list(ring.pieces(wrong, "int16"))


def test_evidence_never_takes_more_room_than_it_may(tmp_path: Path) -> None:
    ring = Ring(tmp_path, keep=100, keep_bytes=250_000)
    for start in range(1, 6):
        ring.put("m", "r", Record(samples=_wave().samples, rate_hz=12_000.0, start_ns=start), _told())
    assert sum(path.stat().st_size for path in tmp_path.glob("*.svb1")) <= 250_000
