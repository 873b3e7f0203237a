"""Records out of files: every kind gives the same samples back, and contradictions are refused."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import DocumentError
from workloads.vibration.files import read
from workloads.vibration.record import Unit

X = np.random.default_rng(0).uniform(-0.9, 0.9, 600)


def _wav(path: Path, raw: bytes, *, channels: int, width: int, rate: int = 25_600) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(raw)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<f2"])
def test_npy_floats_come_back(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", X.astype(dtype))
    found = read(tmp_path / "a.npy", rate_hz=12_000, rpm=1750, unit=Unit.G)
    assert found.samples == pytest.approx(X, abs=1e-3)
    assert (found.rate_hz, found.rpm, found.unit, found.source) == (12_000, 1750, Unit.G, "a.npy")


def test_npy_channels_lie_on_the_shorter_side(tmp_path: Path) -> None:
    both = np.stack([X, 2 * X])
    np.save(tmp_path / "rows.npy", both)
    np.save(tmp_path / "columns.npy", both.T)
    for name in ("rows", "columns"):
        assert read(tmp_path / f"{name}.npy", rate_hz=1e4, channel=1).samples == pytest.approx(2 * X)


def test_npy_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DocumentError, match="no npy array"):
        read(tmp_path / "a.npy", rate_hz=1e4)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"rubbish" * 9])
def test_rubbish_called_npy_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(DocumentError):
        read(tmp_path / "a.npy", rate_hz=1e4)


@pytest.mark.parametrize(("width", "scale"), [(2, 1 << 15), (3, 1 << 23), (4, 1 << 31)])
def test_wav_integers_come_back_as_shares_of_full_scale(tmp_path: Path, width: int, scale: int) -> None:
    whole = np.round(np.stack([X, -X], axis=1) * (scale - 1)).astype(np.int64)
    raw = b"".join(int(v).to_bytes(width, "little", signed=True) for v in whole.ravel())
    _wav(tmp_path / "a.wav", raw, channels=2, width=width)
    found = read(tmp_path / "a.wav", channel=1)
    assert found.samples == pytest.approx(-X, abs=2 / scale + 1e-7)
    assert found.rate_hz == 25_600


def test_wav_floats_come_back(tmp_path: Path) -> None:
    body = X.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, 51_200, 51_200 * 4, 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    assert read(tmp_path / "a.wav").samples == pytest.approx(X, abs=1e-6)


@pytest.mark.parametrize("cut", [4, 20, 40])
def test_a_wav_cut_short_is_refused_or_shorter(tmp_path: Path, cut: int) -> None:
    _wav(tmp_path / "a.wav", b"\0\1" * 600, channels=1, width=2)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:cut])
    with pytest.raises(DocumentError):
        read(tmp_path / "b.wav")


@pytest.mark.parametrize(("separator", "comma"), [(",", False), (";", False), (";", True), ("\t", True), (" ", False)])
def test_csv_separators_and_decimal_commas(tmp_path: Path, separator: str, comma: bool) -> None:
    rows = [separator.join(f"{v:.6f}" for v in (a, 2 * a)) for a in X]
    text = "left" + separator + "right\n" + "\n".join(rows)
    if comma:
        text = text.replace(".", ",")
    (tmp_path / "a.csv").write_text(text)
    assert read(tmp_path / "a.csv", rate_hz=1e4, channel=1).samples == pytest.approx(2 * X, abs=1e-5)


def test_a_time_column_tells_the_rate_and_is_no_channel(tmp_path: Path) -> None:
    rows = "\n".join(f"{i / 2560:.7f},{a:.6f}" for i, a in enumerate(X))
    (tmp_path / "a.csv").write_text("time [s],acc\n" + rows)
    found = read(tmp_path / "a.csv")
    assert found.rate_hz == pytest.approx(2560, rel=1e-4)
    assert found.samples == pytest.approx(X, abs=1e-5)


def test_a_gap_in_the_time_column_is_located(tmp_path: Path) -> None:
    rows = "\n".join(f"{(i + (i > 300)) / 2560:.7f},{a:.6f}" for i, a in enumerate(X))
    (tmp_path / "a.csv").write_text("time,acc\n" + rows)
    with pytest.raises(DocumentError, match="jumps after sample 300"):
        read(tmp_path / "a.csv")


def _uff(values: str, *, head: str = "    58", kind: int = 4, label: str = "m/s2") -> str:
    return (
        f"    -1\n{head}\na\nb\nc\nd\ne\n    1         0    0         0 NONE 1 0 NONE 0 0\n"
        f"         {kind}       600         1  0.00000e+00  3.90625e-05  0.00000e+00\n"
        f"        17    0    0    0 Time s\n        12    0    0    0 Acceleration {label}\n"
        f"         0    0    0    0 NONE NONE\n         0    0    0    0 NONE NONE\n{values}"
    )


def test_uff_58_text_and_binary_come_back(tmp_path: Path) -> None:
    lines = "\n".join(" ".join(f"{v:.11e}" for v in row) for row in X.reshape(-1, 4))
    (tmp_path / "a.uff").write_text(_uff(lines) + "\n    -1\n")
    head = f"    58b     1     2          11        {600 * 8}     0     0           0           0"
    data = _uff("", head=head).encode() + X.astype("<f8").tobytes() + b"\n    -1\n"
    (tmp_path / "b.uff").write_bytes(data + data)
    for name, channel in (("a", 0), ("b", 0), ("b", 1)):
        found = read(tmp_path / f"{name}.uff", channel=channel)
        assert found.samples == pytest.approx(X)
        assert (found.rate_hz, found.unit) == (pytest.approx(25_600), Unit.METRE_PER_S2)
    with pytest.raises(DocumentError, match="the file has 2"):
        read(tmp_path / "b.uff", channel=2)


@pytest.mark.parametrize("name", ["a.uff", "a.csv", "a.wav"])
@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_never_do_worse_than_be_refused(tmp_path: Path, name: str, seed: int) -> None:
    noise = np.random.default_rng(seed).bytes(4000)
    start = {"a.uff": b"    -1\n    58\n", "a.csv": b"1,2\n", "a.wav": b"RIFF0000WAVEfmt \x10\0\0\0"}[name]
    (tmp_path / name).write_bytes(start + noise)
    with pytest.raises(DocumentError):
        read(tmp_path / name, rate_hz=1e4)


def test_a_declared_rate_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    _wav(tmp_path / "a.wav", b"\0\1" * 600, channels=1, width=2)
    with pytest.raises(DocumentError, match="declared rate 12000 Hz, but the file says 25600 Hz"):
        read(tmp_path / "a.wav", rate_hz=12_000)


@pytest.mark.parametrize("name", ["missing.npy", "a.xyz"])
def test_missing_and_unknown_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.xyz").write_text("1")
    with pytest.raises(DocumentError):
        read(tmp_path / name, rate_hz=1e4)


def test_a_channel_that_does_not_exist_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DocumentError, match="channel 3 does not exist: the file has 1"):
        read(tmp_path / "a.npy", rate_hz=1e4, channel=3)


def test_a_file_without_a_rate_needs_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DocumentError, match="sampling rate"):
        read(tmp_path / "a.npy")
