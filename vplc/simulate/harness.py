"""The inner loop of a simulation as LLVM IR: program, wires, plant and records in one native function. Pure.

Called by `machine`, which loads it. One tick, at time k * tick:

    ramps   write their variables
    tasks   those that are due, by priority: inputs in, programs, outputs out, as the scan host does
    record  every n-th tick, each column as a double
    plant   moves on to the next tick (a native plant; a Python class is stepped between calls)

`simulate(program, plant, control, rows, first, end)` returns k * 4 + code: 0 done, 1 the program faulted, 2 the plant.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

INPUT_BYTES = 40  # control, per input: mode, value, bias, bias per tick, quality
RAMP_BYTES = 24  # then, per ramp: active, value, change per tick
PASS, HOLD, VALUE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Cell:
    """A scalar in one of the two states. kind: f32 f64 i8..i64 u8..u64 bool bit."""

    plant: bool
    offset: int
    kind: str
    bit: int = -1


@dataclass(frozen=True, slots=True)
class Link:
    """`to := source * scale + offset`; quality is the offset of a byte of the program, or -1."""

    source: Cell
    to: Cell
    scale: float
    offset: float
    quality: int = -1


@dataclass(frozen=True, slots=True)
class TaskCalls:
    """A task: every how many ticks, and the addresses of its programs' run functions."""

    every: int
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Harness:
    tick_ns: int
    tasks: tuple[TaskCalls, ...]
    plant_run: int  # 0: the plant is stepped from outside
    plant_every: int
    inputs: tuple[Link, ...]
    outputs: tuple[Link, ...]
    ramps: tuple[Cell, ...]
    columns: tuple[Cell, ...]
    record_every: int
    capacity: int  # rows per column


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.number = 0

    def new(self, text: str) -> str:
        self.number += 1
        self.lines.append(f"  %v{self.number} = {text}")
        return f"%v{self.number}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self) -> str:
        self.number += 1
        return f"l{self.number}"

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def when(self, condition: str) -> str:
        """Begins a block that only runs under the condition; the result is for `end`."""
        then, after = self.label(), self.label()
        self.do(f"br i1 {condition}, label %{then}, label %{after}")
        self.begin(then)
        return after

    def end(self, after: str) -> None:
        self.do(f"br label %{after}")
        self.begin(after)

    def place(self, base: str, offset: int) -> str:
        return self.new(f"getelementptr i8, ptr {base}, i64 {offset}")

    def word(self, kind: str, offset: int) -> str:
        """A word of the control block."""
        return self.new(f"load {kind}, ptr {self.place('%control', offset)}")

    def multiple(self, every: int) -> str:
        return self.new(f"icmp eq i64 {self.new(f'urem i64 %k, {every}')}, 0")


def _double(value: float) -> str:
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _base(cell: Cell) -> str:
    return "%plant" if cell.plant else "%program"


def _load(w: _Writer, cell: Cell) -> str:
    at = w.place(_base(cell), cell.offset)
    if cell.kind == "f64":
        return w.new(f"load double, ptr {at}, align 1")
    if cell.kind == "f32":
        return w.new(f"fpext float {w.new(f'load float, ptr {at}, align 1')} to double")
    if cell.kind in ("bool", "bit"):
        byte = w.new(f"load i8, ptr {at}, align 1")
        mask = 255 if cell.kind == "bool" else 1 << cell.bit
        on = w.new(f"icmp ne i8 {w.new(f'and i8 {byte}, {mask}')}, 0")
        return w.new(f"uitofp i1 {on} to double")
    width = cell.kind[1:]
    raw = w.new(f"load i{width}, ptr {at}, align 1")
    return w.new(f"{'sitofp' if cell.kind[0] == 'i' else 'uitofp'} i{width} {raw} to double")


def _store(w: _Writer, cell: Cell, value: str) -> None:
    """Integers are rounded half to even and stop at the limits of their type, as a converter does; NaN becomes 0."""
    at = w.place(_base(cell), cell.offset)
    if cell.kind == "f64":
        w.do(f"store double {value}, ptr {at}, align 1")
    elif cell.kind == "f32":
        w.do(f"store float {w.new(f'fptrunc double {value} to float')}, ptr {at}, align 1")
    elif cell.kind in ("bool", "bit"):
        on = w.new(f"zext i1 {w.new(f'fcmp une double {value}, 0.0')} to i8")
        if cell.kind == "bit":
            old = w.new(f"load i8, ptr {at}, align 1")
            rest = w.new(f"and i8 {old}, {255 & ~(1 << cell.bit)}")
            on = w.new(f"or i8 {rest}, {w.new(f'shl i8 {on}, {cell.bit}')}")
        w.do(f"store i8 {on}, ptr {at}, align 1")
    else:
        width, sign = cell.kind[1:], "s" if cell.kind[0] == "i" else "u"
        whole = w.new(f"call double @llvm.roundeven.f64(double {value})")
        number = w.new(f"call i{width} @llvm.fpto{sign}i.sat.i{width}.f64(double {whole})")
        w.do(f"store i{width} {number}, ptr {at}, align 1")


def _scaled(w: _Writer, value: str, link: Link) -> str:
    if link.scale != 1.0:
        value = w.new(f"fmul double {value}, {_double(link.scale)}")
    if link.offset != 0.0:
        value = w.new(f"fadd double {value}, {_double(link.offset)}")
    return value


def _copy_in(w: _Writer, links: Sequence[Link]) -> None:
    for i, link in enumerate(links):
        at = INPUT_BYTES * i
        mode = w.word("i64", at)
        after = w.when(w.new(f"icmp ne i64 {mode}, {HOLD}"))
        real = _scaled(w, _load(w, link.source), link)
        biased = w.new(f"fadd double {real}, {w.word('double', at + 16)}")
        is_fixed = w.new(f"icmp eq i64 {mode}, {VALUE}")
        _store(w, link.to, w.new(f"select i1 {is_fixed}, double {w.word('double', at + 8)}, double {biased}"))
        w.end(after)
        if link.quality >= 0:
            byte = w.new(f"trunc i64 {w.word('i64', at + 32)} to i8")
            w.do(f"store i8 {byte}, ptr {w.place('%program', link.quality)}")


def _call(w: _Writer, address: int, state: str, now: str, code: int) -> None:
    bad = w.new(f"call i32 inttoptr (i64 {address} to ptr)(ptr {state}, i64 {now})")
    after = w.when(w.new(f"icmp ne i32 {bad}, 0"))
    ticks = w.new("shl i64 %k, 2")
    w.do(f"ret i64 {w.new(f'or i64 {ticks}, {code}')}")
    w.begin(after)


def write(h: Harness) -> str:
    """The whole module."""
    w = _Writer()
    w.begin("entry")
    w.do("br label %head")
    w.begin("head")
    w.do("%k = phi i64 [ %first, %entry ], [ %k2, %next ]")
    w.do("%more = icmp slt i64 %k, %end")
    w.do("br i1 %more, label %tick, label %done")
    w.begin("tick")
    now = w.new(f"mul i64 %k, {h.tick_ns}")
    for i, cell in enumerate(h.ramps):
        at = INPUT_BYTES * len(h.inputs) + RAMP_BYTES * i
        after = w.when(w.new(f"icmp ne i64 {w.word('i64', at)}, 0"))
        value = w.word("double", at + 8)
        _store(w, cell, value)
        further = w.new(f"fadd double {value}, {w.word('double', at + 16)}")
        w.do(f"store double {further}, ptr {w.place('%control', at + 8)}")
        w.end(after)
    for task in h.tasks:
        after = w.when(w.multiple(task.every)) if task.every > 1 else ""
        _copy_in(w, h.inputs)
        for address in task.runs:
            _call(w, address, "%program", now, 1)
        for link in h.outputs:
            _store(w, link.to, _scaled(w, _load(w, link.source), link))
        if after:
            w.end(after)
    for i in range(len(h.inputs)):
        bias = w.place("%control", INPUT_BYTES * i + 16)
        old = w.new(f"load double, ptr {bias}")
        new = w.new(f"fadd double {old}, {w.word('double', INPUT_BYTES * i + 24)}")
        w.do(f"store double {new}, ptr {bias}")
    after = w.when(w.multiple(h.record_every)) if h.record_every > 1 else ""
    row = w.new(f"udiv i64 %k, {h.record_every}")
    for i, cell in enumerate(h.columns):
        index = w.new(f"add i64 {row}, {i * h.capacity}")
        place = w.new(f"getelementptr double, ptr %rows, i64 {index}")
        w.do(f"store double {_load(w, cell)}, ptr {place}")
    if after:
        w.end(after)
    w.do("%k2 = add i64 %k, 1")
    if h.plant_run:
        after = w.when(w.new(f"icmp eq i64 {w.new(f'urem i64 %k2, {h.plant_every}')}, 0"))
        begun = w.new(f"mul i64 {w.new(f'sub i64 %k2, {h.plant_every}')}, {h.tick_ns}")
        _call(w, h.plant_run, "%plant", begun, 2)
        w.end(after)
    w.do("br label %next")
    w.begin("next")
    w.do("br label %head")
    w.begin("done")
    w.do("ret i64 " + w.new("shl i64 %k, 2"))
    widths = (8, 16, 32, 64)
    declared = [f"declare i{n} @llvm.fpto{s}i.sat.i{n}.f64(double)" for n in widths for s in "su"]
    head = "define i64 @simulate(ptr %program, ptr %plant, ptr %control, ptr %rows, i64 %first, i64 %end) nounwind {"
    return "\n".join(["declare double @llvm.roundeven.f64(double)", *declared, head, *w.lines, "}", ""])
