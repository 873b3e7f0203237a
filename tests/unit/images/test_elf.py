"""The ELF reader against the loader of this machine and against hand-made files."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from workloads.images.elf import is_elf, needed


def _elf(wide: bool, order: str, names: list[str], interpreter: str) -> bytes:
    """A minimal dynamic executable: header, three segments, a dynamic section, strings at another address."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    offsets, at = [], 1
    for name in names:
        offsets.append(at)
        at += len(name) + 1
    load_at, load_address = 0x200, 0x4000
    dynamic_entry = struct.Struct(order + ("qQ" if wide else "iI"))
    pairs = [(1, offset) for offset in offsets] + [(5, load_address), (0, 0)]
    dynamic = b"".join(dynamic_entry.pack(*pair) for pair in pairs)
    dynamic_at = load_at + 0x100
    interpreter_at = dynamic_at + 0x200
    header_size, entry_size = (64, 56) if wide else (52, 32)

    def segment(kind: int, offset: int, address: int, size: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, 4, offset, address, address, size, size, 8)
        return struct.pack(order + "IIIIIIII", kind, offset, address, address, size, size, 4, 4)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    rest = struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"))
    header = ident + rest.pack(3, 0, 1, 0, header_size, 0, 0, header_size, entry_size, 3, 0, 0, 0)
    table = (
        segment(1, load_at, load_address, len(strings))
        + segment(2, dynamic_at, 0x9000, len(dynamic))
        + segment(3, interpreter_at, 0xA000, len(interpreter) + 1)
    )
    image = bytearray(0x800)
    for offset, data in (
        (0, header),
        (header_size, table),
        (load_at, strings),
        (dynamic_at, dynamic),
        (interpreter_at, interpreter.encode() + b"\0"),
    ):
        image[offset : offset + len(data)] = data
    return bytes(image)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
@pytest.mark.parametrize("wide", [True, False], ids=["64 bit", "32 bit"])
def test_libraries_and_loader_are_read_for_any_architecture(wide: bool, order: str) -> None:
    data = _elf(wide, order, ["libssl.so.3", "libc.so.6"], "/lib/ld.so.1")
    assert needed(data) == ["/lib/ld.so.1", "libssl.so.3", "libc.so.6"]


def test_this_interpreter_needs_the_c_library() -> None:
    names = needed(Path(sys.executable).resolve().read_bytes())
    assert "libc.so.6" in names
    assert any(name.startswith("/lib") for name in names)


def test_what_is_not_elf_needs_nothing() -> None:
    assert needed(b"#!/bin/sh\n") == []
    assert needed(b"") == []
    assert not is_elf(b"\x7fELF")
