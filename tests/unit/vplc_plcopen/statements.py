"""A small evaluator of the Structured Text that drawings become: BOOL and integers, IF, RS, SR, R_TRIG, F_TRIG, CTU.

Independent of the compiler, so that a mistake made in both cannot hide; used by the property tests only.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

_OPERATORS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "OR": (1, operator.or_),
    "XOR": (2, operator.xor),
    "AND": (3, operator.and_),
    "=": (4, operator.eq),
    "<>": (4, operator.ne),
    ">=": (5, operator.ge),
    "+": (6, operator.add),
    "*": (7, operator.mul),
}
_CALL = re.compile(r"(\w+)\((.*)\);\Z")
_ASSIGN = re.compile(r"([\w.]+) := (.*);\Z")


class Instance:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.out: dict[str, Any] = {"Q": False, "Q1": False, "CV": 0}
        self.inputs: dict[str, Any] = {}
        self.memory: bool | None = None

    def call(self, given: dict[str, Any]) -> None:
        self.inputs.update(given)
        get = self.inputs.get
        if self.kind == "R_TRIG":
            self.out["Q"] = bool(get("CLK", False)) and not self.memory
            self.memory = bool(get("CLK", False))
        elif self.kind == "F_TRIG":
            self.out["Q"] = not get("CLK", False) and self.memory is True
            self.memory = bool(get("CLK", False))
        elif self.kind == "RS":
            self.out["Q1"] = not get("R1", False) and (bool(get("S", False)) or self.out["Q1"])
        elif self.kind == "SR":
            self.out["Q1"] = bool(get("S1", False)) or (not get("R", False) and self.out["Q1"])
        else:
            raise AssertionError(f"no block {self.kind}")


class Program:
    """The first PROGRAM of a text."""

    def __init__(self, text: str) -> None:
        lines = [line.split("//")[0].strip() for line in text.split("\n")]
        start = next(i for i, line in enumerate(lines) if line.startswith("PROGRAM "))
        end = lines.index("END_PROGRAM")
        self.values: dict[str, Any] = {}
        self.instances: dict[str, Instance] = {}
        self.temporary: set[str] = set()
        self.body: list[str] = []
        section = ""
        for line in lines[start + 1 : end]:
            if line.startswith("VAR"):
                section = line
            elif line == "END_VAR":
                section = ""
            elif section:
                m = re.match(r"(\w+)[^:]*: (\w+)", line)
                assert m, line
                if m.group(2) in ("RS", "SR", "R_TRIG", "F_TRIG"):
                    self.instances[m.group(1)] = Instance(m.group(2))
                else:
                    self.values[m.group(1)] = False if m.group(2) == "BOOL" else 0
                    if section == "VAR_TEMP":
                        self.temporary.add(m.group(1))
            elif line:
                self.body.append(line)

    def scan(self) -> None:
        for name in self.temporary:
            self.values.pop(name, None)  # reading one before it is written fails
        running = [True]
        for line in self.body:
            if line.startswith("IF "):
                running.append(running[-1] and bool(self.expression(line[3:].removesuffix(" THEN"))))
            elif line == "END_IF;":
                running.pop()
            elif not running[-1]:
                continue
            elif line == "RETURN;":
                return
            elif m := _ASSIGN.match(line):
                self.values[m.group(1)] = self.expression(m.group(2))
            elif m := _CALL.match(line):
                given = {}
                for part in m.group(2).split(", ") if m.group(2) else []:
                    name, _, value = part.partition(" := ")
                    given[name] = self.expression(value)
                self.instances[m.group(1)].call(given)
            else:
                raise AssertionError(f"unknown statement {line}")
        assert len(running) == 1

    def expression(self, text: str) -> Any:
        tokens = re.findall(r"[\w.]+|<>|<=|>=|[()=<>+*/-]", text)
        value, rest = self.operation(tokens, 0)
        assert not rest, text
        return value

    def operation(self, tokens: list[str], least: int) -> tuple[Any, list[str]]:
        """Operators by their precedence in the standard's table 71."""
        head, rest = tokens[0], tokens[1:]
        value: Any
        if head == "NOT":
            value, rest = self.operation(rest, 9)
            value = not value
        elif head == "(":
            value, rest = self.operation(rest, 0)
            assert rest[0] == ")"
            rest = rest[1:]
        else:
            value = self.operand(head)
        while rest and rest[0] in _OPERATORS and _OPERATORS[rest[0]][0] >= least:
            binds, act = _OPERATORS[rest[0]]
            right, rest = self.operation(rest[1:], binds + 1)
            value = act(value, right)
        return value, rest

    def operand(self, word: str) -> Any:
        if word in ("TRUE", "FALSE"):
            return word == "TRUE"
        if word.isdigit():
            return int(word)
        instance, dot, pin = word.partition(".")
        return self.instances[instance].out[pin] if dot else self.values[word]
