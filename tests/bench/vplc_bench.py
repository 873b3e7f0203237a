"""Measure the Structured Text compiler: six programs, their scan times, and plain C beside the rungs.

The programs are generated here; each leaves a checksum that two optimisation levels must agree on. The figures
of other compilers are those they reached on equivalent programs on another day: reference only.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from ctypes import CDLL
from pathlib import Path

from tests.bench.figure import Figure

PREFIXES = ("vplc_",)

ROOT = Path(__file__).resolve().parents[2]
# ns per scan of the better open compiler on an equivalent program, measured once on a 2-core VM.
PEERS = {"pid": 1583, "timers": 15910, "window": 11534, "numbers": 16116, "motors": 4495, "rungs": 163370}
SCANS = {"pid": 20000, "timers": 3000, "window": 3000, "numbers": 3000, "motors": 20000, "rungs": 2000}
RUNGS = 10_000
INPUTS = 256


def pid() -> str:
    loops = range(100)
    decl = "\n".join(f"  loop{i} : Regulator; line{i} : Lag;" for i in loops)
    body = "\n".join(
        f"  loop{i}(setpoint := {10 + i * 0.5:.2f}, actual := line{i}.out, gain := {1 + i * 0.01:.2f}); "
        f"line{i}(in := loop{i}.out, tau := {0.05 + i * 0.001:.3f}); total := total + line{i}.out;"
        for i in loops
    )
    return f"""FUNCTION_BLOCK Regulator
VAR_INPUT setpoint, actual, gain : REAL; END_VAR
VAR_OUTPUT out : REAL; END_VAR
VAR error, last, sum, slope, smooth, raw : REAL; started : BOOL; END_VAR
  error := setpoint - actual;
  IF NOT started THEN last := error; started := TRUE; END_IF;
  slope := (error - last) / 0.001;
  smooth := smooth + 0.1 * (slope - smooth);
  last := error;
  raw := gain * error + sum + 0.01 * smooth;
  IF raw > 100.0 THEN raw := 100.0; ELSIF raw < -100.0 THEN raw := -100.0;
  ELSE sum := sum + gain * 0.5 * error * 0.001; END_IF;
  out := LIMIT(-100.0, raw, 100.0);
END_FUNCTION_BLOCK
FUNCTION_BLOCK Lag
VAR_INPUT in, tau : REAL; END_VAR
VAR_OUTPUT out : REAL; END_VAR
  IF tau > 0.0 THEN out := out + (in - out) * 0.001 / tau; END_IF;
END_FUNCTION_BLOCK
PROGRAM Bench
VAR
{decl}
  total : REAL; chk : DINT;
END_VAR
  total := 0.0;
{body}
  chk := REAL_TO_DINT(total * 100.0);
END_PROGRAM
"""


def timers() -> str:
    count = range(1000)
    decl = "\n".join(f"  t{i} : TON;" for i in count)
    body = "\n".join(
        f"  t{i}(IN := NOT t{i}.Q, PT := T#{3 + i * 11 % 89}ms); IF t{i}.Q THEN chk := chk + {1 + i % 7}; END_IF;"
        for i in count
    )
    return f"PROGRAM Bench\nVAR\n{decl}\n  chk : DINT;\nEND_VAR\n{body}\nEND_PROGRAM\n"


def window() -> str:
    return """PROGRAM Bench
VAR
  ring : ARRAY[0..1023] OF REAL; bins : ARRAY[0..63] OF DINT;
  at, i, k, n, chk : DINT; sum, mean, low, high, spread : REAL;
  text, word : STRING; p : INT;
END_VAR
  n := n + 1;
  ring[at] := 50.0 + 40.0 * SIN(DINT_TO_REAL(n) * 0.01);
  at := (at + 1) MOD 1024;
  sum := 0.0; low := 1.0E6; high := -1.0E6;
  FOR i := 0 TO 1023 DO
    sum := sum + ring[i];
    IF ring[i] < low THEN low := ring[i]; END_IF;
    IF ring[i] > high THEN high := ring[i]; END_IF;
  END_FOR;
  mean := sum / 1024.0;
  spread := 0.0;
  FOR i := 0 TO 1023 DO spread := spread + (ring[i] - mean) * (ring[i] - mean); END_FOR;
  FOR i := 0 TO 63 DO bins[i] := 0; END_FOR;
  FOR i := 0 TO 1023 DO
    k := LIMIT(0, REAL_TO_DINT(ring[i] * 0.5), 63);
    bins[k] := bins[k] + 1;
  END_FOR;
  text := 'PUMP=ON,TANK=7,VALVE=OFF,LEVEL=HIGH';
  chk := bins[20] + REAL_TO_DINT(high);
  WHILE LEN(text) > 0 DO
    p := FIND(text, ',');
    IF p > 0 THEN word := LEFT(text, p - 1); text := DELETE(text, p, 1); ELSE word := text; text := ''; END_IF;
    chk := chk * 3 + INT_TO_DINT(LEN(CONCAT(word, ';')));
  END_WHILE;
END_PROGRAM
"""


def numbers() -> str:
    return """FUNCTION Crc : DWORD
VAR_INPUT old, data : DWORD; END_VAR
VAR k : INT; END_VAR
  old := old XOR data;
  FOR k := 0 TO 7 DO
    IF old.0 THEN old := SHR(old, 1) XOR DWORD#16#EDB88320; ELSE old := SHR(old, 1); END_IF;
  END_FOR;
  Crc := old;
END_FUNCTION
PROGRAM Bench
VAR
  composite : ARRAY[2..4095] OF BOOL; a, b, c : ARRAY[0..15, 0..15] OF LREAL;
  i, j, k, primes, n, chk : DINT; s : LREAL; crc : DWORD;
END_VAR
  n := n + 1;
  FOR i := 2 TO 4095 DO composite[i] := FALSE; END_FOR;
  primes := 0;
  FOR i := 2 TO 4095 DO
    IF NOT composite[i] THEN
      primes := primes + 1;
      j := i + i;
      WHILE j <= 4095 DO composite[j] := TRUE; j := j + i; END_WHILE;
    END_IF;
  END_FOR;
  FOR i := 0 TO 15 DO FOR j := 0 TO 15 DO
    a[i, j] := DINT_TO_LREAL((i * 16 + j + n) MOD 19) * 0.125; b[i, j] := DINT_TO_LREAL((i + j * 16) MOD 11) * 0.25;
  END_FOR; END_FOR;
  FOR i := 0 TO 15 DO FOR j := 0 TO 15 DO
    s := 0.0;
    FOR k := 0 TO 15 DO s := s + a[i, k] * b[k, j]; END_FOR;
    c[i, j] := s;
  END_FOR; END_FOR;
  crc := DWORD#16#FFFFFFFF;
  FOR i := 0 TO 255 DO crc := Crc(crc, DINT_TO_DWORD((i + n) MOD 256)); END_FOR;
  chk := primes + DWORD_TO_DINT(SHR(crc, 8)) + LREAL_TO_DINT(c[3, 5]);
END_PROGRAM
"""


def motors() -> str:
    count = range(200)
    decl = "\n".join(f"  m{i} : Motor;" for i in count)
    body = "\n".join(
        f"  m{i}(start := n MOD {7 + i % 11} = 0, stop := n MOD {31 + i % 13} = 0, trip := n MOD {199 + i} = 0, "
        f"reset := n MOD {43 + i % 5} = 0); chk := chk + INT_TO_DINT(m{i}.status) * {i + 1} + INT_TO_DINT(m{i}.starts);"
        for i in count
    )
    return f"""TYPE Phase : (Idle, Starting, Running, Tripped); END_TYPE
TYPE Record : STRUCT hours : REAL; trips : INT; END_STRUCT; END_TYPE
FUNCTION_BLOCK Motor
VAR_INPUT start, stop, trip, reset : BOOL; END_VAR
VAR_OUTPUT on : BOOL; status, starts : INT; END_VAR
VAR phase : Phase; ramp : TON; go : R_TRIG; clear : F_TRIG; counter : CTU; log : Record; END_VAR
  go(CLK := start);
  clear(CLK := reset);
  CASE phase OF
    Idle: on := FALSE; status := 0; IF go.Q THEN phase := Starting; END_IF;
    Starting: on := TRUE; status := 1; ramp(IN := TRUE, PT := T#5ms);
      IF ramp.Q OR stop THEN ramp(IN := FALSE); phase := SEL(stop, Running, Idle); END_IF;
    Running: on := TRUE; status := 2; log.hours := log.hours + 0.001; IF stop THEN phase := Idle; END_IF;
    Tripped: on := FALSE; status := 4; IF clear.Q THEN phase := Idle; END_IF;
  END_CASE;
  IF trip THEN log.trips := log.trips + 1; phase := Tripped; END_IF;
  counter(CU := on, R := FALSE, PV := 32767);
  starts := counter.CV;
END_FUNCTION_BLOCK
PROGRAM Bench
VAR
{decl}
  n, chk : DINT;
END_VAR
  n := n + 1;
  chk := 0;
{body}
END_PROGRAM
"""


def rung_network() -> tuple[list[tuple[int, ...]], list[int]]:
    """The rungs as numbers, so that the ST and the C text are one program."""
    chance = random.Random(20261122)
    rungs = []
    for k in range(RUNGS):
        a, b, c = (chance.randrange(INPUTS) for _ in range(3))
        rungs.append((k % 4, a, b, c, chance.randrange(max(1, k)), chance.randrange(RUNGS)))
    return rungs, list(range(0, RUNGS, 10))


_ST = (
    "(i{a} OR c{k}) AND NOT i{b}", "(i{a} AND c{p}) OR (NOT i{b} AND c{q})",
    "(c{p} XOR i{c}) AND (i{a} OR NOT c{q})", "(i{a} AND i{b} AND NOT c{p}) OR (c{q} AND i{c})",
)  # fmt: skip
_C = (
    "(I[{a}] | C[{k}]) & (I[{b}] ^ 1)", "(I[{a}] & C[{p}]) | ((I[{b}] ^ 1) & C[{q}])",
    "(C[{p}] ^ I[{c}]) & (I[{a}] | (C[{q}] ^ 1))", "(I[{a}] & I[{b}] & (C[{p}] ^ 1)) | (C[{q}] & I[{c}])",
)  # fmt: skip


def rungs() -> str:
    network, counted = rung_network()
    names = [f"i{j}" for j in range(INPUTS)] + [f"c{k}" for k in range(RUNGS)]
    decl = "\n".join("  " + ", ".join(names[i : i + 16]) + " : BOOL;" for i in range(0, len(names), 16))
    drive = "\n".join(
        f"  i{j} := shift.{j};" if j < 32 else f"  i{j} := i{j - 32} XOR i{j * 7 % 32};" for j in range(INPUTS)
    )
    body = "\n".join(
        f"  c{k} := " + _ST[form].format(a=a, b=b, c=c, p=p, q=q, k=k) + ";"
        for k, (form, a, b, c, p, q) in enumerate(network)
    )
    count = "\n".join(f"  IF c{k} THEN chk := chk + {k + 1}; END_IF;" for k in counted)
    return f"""PROGRAM Bench
VAR
{decl}
  shift : DWORD := 16#ACE1BEEF; chk : DINT;
END_VAR
  IF shift.0 THEN shift := SHR(shift, 1) XOR DWORD#16#B4BCD35C; ELSE shift := SHR(shift, 1); END_IF;
{drive}
{body}
  chk := 0;
{count}
END_PROGRAM
"""


def rungs_in_c() -> str:
    network, counted = rung_network()
    parts, calls = [], []
    for start in range(0, RUNGS, 100):
        lines = "\n".join(
            f"  C[{k}] = " + _C[network[k][0]].format(k=k, **dict(zip("abcpq", network[k][1:], strict=True))) + ";"
            for k in range(start, start + 100)
        )
        parts.append(f"static __attribute__((noinline)) void part{start}(void) {{\n{lines}\n}}")
        calls.append(f"  part{start}();")
    count = "\n".join(f"  if (C[{k}]) chk += {k + 1};" for k in counted)
    return f"""#include <stdint.h>
static uint8_t I[{INPUTS}], C[{RUNGS}];
static uint32_t shift = 0xACE1BEEF;
int32_t chk;
{chr(10).join(parts)}
static void scan(void) {{
  uint32_t bit = shift & 1;
  shift >>= 1;
  if (bit) shift ^= 0xB4BCD35C;
  for (int j = 0; j < 32; j++) I[j] = (shift >> j) & 1;
  for (int j = 32; j < {INPUTS}; j++) I[j] = I[j - 32] ^ I[j * 7 % 32];
{chr(10).join(calls)}
  chk = 0;
{count}
}}
int32_t run(int n) {{ for (int i = 0; i < n; i++) scan(); return chk; }}
"""


def bench(path: Path, scans: int, level: int = 2) -> dict[str, float]:
    command = [sys.executable, "-m", "vplc", "bench", str(path), "--scans", str(scans), "--json", "-O", str(level)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def plain_c(folder: Path, scans: int) -> tuple[float, int] | None:
    """ns per scan of the rungs in C, best of five, and the checksum; None without a C compiler."""
    source, library = folder / "rungs.c", folder / "rungs.so"
    source.write_text(rungs_in_c(), "utf-8")
    zig = [sys.executable, "-m", "ziglang", "cc"]
    compiler = ["cc"] if shutil.which("cc") else zig
    made = subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=False)
    if made.returncode:
        return None
    run = CDLL(str(library)).run
    checksum = int(run(scans))
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter_ns()
        run(scans)
        best = min(best, (time.perf_counter_ns() - begin) / scans)
    return best, checksum


def figures() -> Iterator[Figure]:
    """Scan times of all programs; for the rungs also compiling, and the ratio to plain C of the same run."""
    programs = {"pid": pid, "timers": timers, "window": window, "numbers": numbers, "motors": motors, "rungs": rungs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, make in programs.items():
            path = folder / f"{key}.st"
            path.write_text(make(), "utf-8")
            fast, slow = bench(path, SCANS[key]), bench(path, SCANS[key], level=0)
            if fast["chk"] != slow["chk"]:
                raise RuntimeError(f"{key}: optimised {fast['chk']}, plain {slow['chk']}")
            value = fast["ns_per_scan_best"]
            yield Figure(
                key=f"vplc_{key}_scan",
                value=value,
                unit="ns",
                goal=f"<= {PEERS[key]}",
                compared_to="best open peer, measured earlier on an equivalent program",
                ratio=value / PEERS[key],
            )
            if key == "rungs":
                yield from _rungs(folder, fast)


def _rungs(folder: Path, fast: dict[str, float]) -> Iterator[Figure]:
    cpu, peak, value = fast["compile_cpu_s"], fast["compile_peak_mb"], fast["ns_per_scan_best"]
    yield Figure(key="vplc_rungs_compile_cpu", value=cpu, unit="s", goal="< 20", compared_to="20 s", ratio=cpu / 20)
    yield Figure(
        key="vplc_rungs_compile_peak", value=peak, unit="MB", goal="< 500", compared_to="500 MB", ratio=peak / 500
    )
    beside = plain_c(folder, SCANS["rungs"])
    if beside is None:
        return
    c_ns, c_chk = beside
    if c_chk != fast["chk"]:
        raise RuntimeError(f"C computes {c_chk}, vplc {fast['chk']}")
    yield Figure(
        key="vplc_rungs_against_c",
        value=value,
        unit="ns",
        goal=f"<= {1.3 * c_ns:.0f}",
        compared_to="plain C at -O2, same run",
        ratio=value / c_ns,
    )
