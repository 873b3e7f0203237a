"""Samples out of RIFF WAVE files. Bytes in, numbers out.

Called by ``files``. Sound cards record without a unit: what full scale means is the caller's to declare.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def waveform(data: bytes) -> tuple[Floats, float]:
    """Samples x channels and the rate in Hz. PCM of 8, 16, 24 or 32 bits as integers' own values over full scale (-1
    to 1), or IEEE float. Raises ValueError saying what is wrong."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("no RIFF WAVE file")
    form: tuple[int, int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        body = at + 8
        if name == b"fmt " and size >= 16 and body + 16 <= len(data):
            code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", data, body)
            if code == 0xFFFE and size >= 26 and body + 26 <= len(data):
                code = struct.unpack_from("<H", data, body + 24)[0]
            form = (code, channels, rate, block, bits)
        elif name == b"data":
            if form is None:
                raise ValueError("samples before their format")
            return _pcm(data[body : body + size], form), float(form[2])
        at = body + size + (size & 1)
    raise ValueError("no samples found: the file is cut short or holds something else")


def _pcm(raw: bytes, form: tuple[int, int, int, int, int]) -> Floats:
    code, channels, rate, block, bits = form
    if channels < 1 or rate < 1 or block != channels * bits // 8:
        raise ValueError(f"contradicting format: {channels} channels, {bits} bits, {block} bytes, {rate} Hz")
    raw = raw[: len(raw) // block * block]
    flat: npt.NDArray[np.floating]
    if code == 3 and bits in (32, 64):
        flat = np.frombuffer(raw, dtype=f"<f{bits // 8}").astype(np.float32 if bits == 32 else np.float64)
    elif code == 1 and bits in (16, 32):
        whole: npt.NDArray[np.floating]
        whole = np.frombuffer(raw, dtype=f"<i{bits // 8}").astype(np.float32 if bits == 16 else np.float64)
        flat = whole / (1 << (bits - 1))
    elif code == 1 and bits == 24:
        bytes3 = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3).astype(np.int32)
        whole24 = (bytes3[:, 0] << 8 | bytes3[:, 1] << 16 | bytes3[:, 2] << 24) >> 8
        flat = whole24.astype(np.float32) / (1 << 23)
    elif code == 1 and bits == 8:
        flat = (np.frombuffer(raw, dtype=np.uint8).astype(np.float32) - 128) / 128
    else:
        raise ValueError(f"WAV format {code} of {bits} bits is not read, but PCM or IEEE float")
    return flat.reshape(-1, channels)
