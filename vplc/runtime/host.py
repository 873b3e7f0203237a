"""A compiled program loaded into this process: its state, its scans, its faults.

For development and tests. In a plant a small native host runs the shared library instead.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass

from vplc.compiler import layout as lay
from vplc.compiler.build import Build, fault_text
from vplc.compiler.codegen.backend import Loaded, load
from vplc.compiler.codegen.module import Site
from vplc.compiler.model import ProgramInstance
from vplc.compiler.types import ELEMENTARY
from vplc.runtime.values import Json, show


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a scan stopped: what happened, in which POU, file and line, with which values."""

    kind: str
    message: str
    pou: str
    file: str
    line: int
    col: int
    values: list[Json]

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "message": self.message,
            "pou": self.pou,
            "file": self.file,
            "line": self.line,
            "col": self.col,
            "values": self.values,
        }


class Host:
    """Owns the state and the machine code."""

    def __init__(self, build: Build, level: int = 2) -> None:
        self.build = build
        self.code: Loaded = load(build.code.ir, level)
        size = build.layout.size
        self._buffer = ctypes.create_string_buffer(size + 16)
        start = ctypes.addressof(self._buffer)
        self.address = (start + 15) & ~15
        shift = self.address - start
        self.memory = memoryview(self._buffer).cast("B")[shift : shift + size]
        self._init = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(self.code.address("vplc_init"))

    def init(self) -> Fault | None:
        """A cold start: every variable gets its initial value."""
        return self.fault() if self._init(self.address) else None

    def runner(self, instance: ProgramInstance) -> Callable[..., int]:
        """`run(state, now_ns) -> 0 or 1`"""
        name = self.build.code.runs[instance.name]
        return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(self.code.address(name))

    def looper(self, instance: ProgramInstance) -> Callable[..., int]:
        """`loop(state, scans, now_ns, period_ns) -> 0 or 1`"""
        name = self.build.code.runs[instance.name].replace("vplc_run_", "vplc_loop_", 1)
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        return kind(self.code.address(name))

    def call(self, name: str) -> bool:
        """Calls a test function; whether it reported a fault."""
        function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(self.code.address(name))
        return bool(function(self.address))

    def fault_record(self) -> tuple[Site, int, int]:
        header = self.build.layout.header
        site = struct.unpack_from("<i", self.memory, header + lay.FAULT_SITE)[0]
        a, b = struct.unpack_from("<qq", self.memory, header + lay.FAULT_A)
        sites = self.build.code.sites
        return sites[site if 0 <= site < len(sites) else 0], a, b

    def fault(self) -> Fault:
        site, a, b = self.fault_record()
        kind = site.kind.partition(":")[0]
        line, col = site.source.line_col(site.start) if site.source is not None else (0, 0)
        values: list[Json] = []
        if kind == "range":
            real = b == 1
            values = [show(ELEMENTARY["LREAL"], struct.unpack("<d", struct.pack("<q", a))[0]) if real else a]
        elif kind == "division":
            values = [a, 0]
        elif kind == "overflow":
            values = [a, b]
        elif kind in ("bounds", "subrange", "shift", "mux", "depth", "null"):
            values = [a]
        message = fault_text(site)
        if values and kind not in ("null", "depth"):
            message += f" (value {values[0]})" if kind != "division" else f" ({values[0]} / 0)"
        return Fault(kind, message, site.pou, site.source.name if site.source else "", line, col, values)

    def text_fields(self) -> tuple[str, str]:
        header = self.build.layout.header
        out = []
        for field in (lay.TEXT_A, lay.TEXT_B):
            data = bytes(self.memory[header + field : header + field + 250])
            out.append(data.split(b"\0", 1)[0].decode("latin-1"))
        return out[0], out[1]
