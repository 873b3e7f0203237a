"""A program with one of everything that servers show, and its model without a host."""

from __future__ import annotations

import json
from functools import cache

from vplc.compiler.build import compile_sources, seal
from vplc.compiler.source import Source
from vplc.scan import layout, variables
from vplc.servers import model

TEXT = """
TYPE Mode : (Off, Auto, Manual := 5); Phase : (Idle, Filling, Draining); Percent : INT (0..100);
Point : STRUCT x : REAL; y : REAL; END_STRUCT;
Recipe : STRUCT speed : REAL := 1.5;
  times : ARRAY[1..3] OF TIME := [T#1s, T#2s, T#1500ms];
  mode : Mode := Manual;
  name : STRING[20] := 'ale';
  at : Point := (x := 2.5, y := -1.0);
  points : ARRAY[0..1] OF Point;
  on : BOOL := TRUE;
  END_STRUCT;
END_TYPE
VAR_GLOBAL total : LINT := 9007199254740993;
  lamp AT %QX0.3 : BOOL;
  level AT %IW2 : INT;
  speed AT %QW4 : INT;
  mark AT %MD1 : DINT;
  limit AT %MD2 : REAL := 12.5;
  wrd AT %MW0 : WORD;
  flag AT %MX2.1 : BOOL;
  locked AT %MW6 : INT;
  END_VAR
FUNCTION_BLOCK Meter
VAR_INPUT step : INT := 2; END_VAR
VAR_IN_OUT io : INT; END_VAR
VAR_OUTPUT q : BOOL; END_VAR
VAR sum : DINT; END_VAR
  sum := sum + step;
END_FUNCTION_BLOCK
PROGRAM Main
VAR_EXTERNAL total : LINT; END_VAR
VAR plain : INT;
  meter : Meter;
  r : Recipe;
  rs : ARRAY[0..1] OF Recipe;
  p : Percent := 40;
  m : Mode := Auto;
  ph : Phase := Filling;
  ton1 : TON;
  ms : ARRAY[1..2] OF Meter;
 t : TIME := T#1500ms;
  lt : LTIME := LTIME#5ns;
  s : STRING := 'hello';
  w : WSTRING := "wide";
  d : DATE := D#2024-02-29;
  dt1 : DT := DT#2024-02-29-12:30:15;
  tod1 : TOD := TOD#12:00:00;
  b : BYTE := 16#A5;
  wd : WORD := 16#BEEF;
  dw : DWORD;
  lw : LWORD;
  us : USINT;
  u : UINT;
  ud : UDINT;
  ul : ULINT := 18446744073709551615;
  si : SINT := -3;
  li : LINT;
  re : REAL := 0.25;
  lr : LREAL := 3.5;
  bo : BOOL := TRUE;
 a : ARRAY[1..4] OF INT := [1,2,3,4];
  grid : ARRAY[0..1,1..3] OF DINT := [1,2,3,4,5,6];
  flags : ARRAY[0..2] OF BOOL := [TRUE, FALSE, TRUE];
  names : ARRAY[0..1] OF STRING[8] := ['ab','cd'];
  setpoint : REAL := 50.0;
  END_VAR
VAR RETAIN kept : DINT := 5; END_VAR
VAR CONSTANT cc : INT := 7; END_VAR
  plain := plain + 1;
  meter(io := plain);
END_PROGRAM
CONFIGURATION Plant
  RESOURCE Cpu ON Any
    TASK Fast(INTERVAL := T#10ms, PRIORITY := 1);
    PROGRAM One WITH Fast : Main;
  END_RESOURCE
END_CONFIGURATION
"""
FED = [("io", "level")]  # what a driver writes: %IW2


@cache
def plant() -> model.Model:
    return of(TEXT)


def of(text: str, version: int = 1) -> model.Model:
    """The model of a program as version `version`, its input `level` fed by the driver `io` if it has one."""
    _, document = seal(compile_sources([Source("plant.st", text)]), "x86-64")
    document = json.loads(json.dumps(document))
    parsed = layout.parse(document, "plant.json")
    fed = [variables.Fed(v.offset, v.size, v.bit, "io", v.path) for v in parsed.variables if v.path == "level"]
    return model.parse(document, variables.Variables(version, parsed.variables, tuple(fed)), "plant.json")
