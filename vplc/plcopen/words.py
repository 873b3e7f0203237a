"""Checks on the names, types and expressions an XML file puts into Structured Text.

An attribute may hold anything; what is copied into the text must stay one name, one type or one expression,
so that no piece of a file can swallow or forge its neighbours.
"""

from __future__ import annotations

import re

from vplc.plcopen.model import Place, UntranslatableError

_NAME = re.compile(r"[^\W\d]\w*\Z")
_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*\Z")
_ADDRESS = re.compile(r"%[IQM][XBWDL]?(?:\*|\d+(?:\.\d+)*)\Z", re.IGNORECASE)
# One alternative for each thing that may hold a bracket, a quote or a semicolon without meaning it.
_STRAY = re.compile(
    r"""'(?:[^'$\r\n]|\$.)*'|"(?:[^"$\r\n]|\$.)*"|(?P<bad>\(\*|\*\)|/\*|\*/|//|[{}'";]|:=|=>)|(?P<bracket>[()\[\]])"""
)
_CLOSES = {")": "(", "]": "["}
# A string that is not closed ends with its line, as in the compiler.
_TOKENS = re.compile(r"""//[^\n]*|'(?:[^'$\r\n]|\$.)*+'?|"(?:[^"$\r\n]|\$.)*+"?|\(\*|\*\)|/\*|\*/""")
MAX_EXPRESSION = 20_000  # characters; far beyond what a drawing shows
RESERVED = frozenset(
    """IF THEN ELSIF ELSE END_IF CASE OF END_CASE FOR TO BY DO END_FOR WHILE END_WHILE REPEAT UNTIL END_REPEAT
    RETURN EXIT CONTINUE AND OR XOR NOT MOD TRUE FALSE VAR VAR_INPUT VAR_OUTPUT VAR_IN_OUT VAR_TEMP VAR_GLOBAL
    VAR_EXTERNAL END_VAR TYPE END_TYPE STRUCT END_STRUCT ARRAY FUNCTION END_FUNCTION FUNCTION_BLOCK
    END_FUNCTION_BLOCK PROGRAM END_PROGRAM METHOD END_METHOD PROPERTY END_PROPERTY INTERFACE END_INTERFACE
    ACTION END_ACTION CONFIGURATION END_CONFIGURATION RESOURCE END_RESOURCE NAMESPACE END_NAMESPACE""".split()  # noqa: SIM905 - a table of words reads best as text
)


def name(text: str, place: Place) -> str:
    """`text` as one identifier. Raises UntranslatableError."""
    text = text.strip()
    if not _NAME.match(text) or text.upper() in RESERVED:
        raise UntranslatableError(place, f"{text[:40]!r} is not a name Structured Text can hold")
    return text


def is_name(text: str) -> bool:
    return bool(_NAME.match(text)) and text.upper() not in RESERVED


def dotted(text: str, place: Place) -> str:
    """`text` as a name that may carry a namespace or an instance before it."""
    text = text.strip()
    if not _PATH.match(text) or not all(is_name(p) for p in text.split(".")):
        raise UntranslatableError(place, f"{text[:40]!r} is not a name Structured Text can hold")
    return text


def address(text: str, place: Place) -> str:
    text = text.strip()
    if not _ADDRESS.match(text):
        raise UntranslatableError(place, f"{text[:40]!r} is not a direct address")
    return text


def expression(text: str, place: Place) -> str:
    """`text` as one expression, on one line. Raises UntranslatableError where it could be anything else."""
    text = " ".join(text.split())
    if not text:
        raise UntranslatableError(place, "the expression is empty")
    fault = _fault(text)
    if fault:
        raise UntranslatableError(place, f"{text[:60]!r} is not one expression: {fault}")
    return text


def initial(text: str, place: Place) -> str:
    """`text` as an initial value: an expression, or a structure value `(a := 1)`."""
    text = " ".join(text.split())
    if not text:
        raise UntranslatableError(place, "the initial value is empty")
    fault = _fault(text, assignments=True)
    if fault:
        raise UntranslatableError(place, f"{text[:60]!r} is not one value: {fault}")
    return text


def _fault(text: str, assignments: bool = False) -> str:
    if len(text) > MAX_EXPRESSION:
        return f"it is longer than {MAX_EXPRESSION} characters"
    open_brackets: list[str] = []
    for m in _STRAY.finditer(text):
        bad, bracket = m.group("bad"), m.group("bracket")
        # Inside a call's brackets `:=` and `=>` pass parameters.
        if bad and not (bad in (":=", "=>") and open_brackets and (assignments or open_brackets[-1] == "(")):
            return f"{bad!r} does not belong here"
        if bracket in ("(", "["):
            open_brackets.append(bracket)
        elif bracket and (not open_brackets or open_brackets.pop() != _CLOSES[bracket]):
            return f"{bracket!r} closes nothing"
    return f"{open_brackets[-1]!r} is never closed" if open_brackets else ""


def unclosed_comment(text: str) -> bool:
    """Whether a comment begins in `text` and does not end there: it would swallow what comes after."""
    depth, opener = 0, ""
    for m in _TOKENS.finditer(text):
        sign = m.group()
        if depth:
            if sign == opener:
                depth += 1
            elif sign == ("*)" if opener == "(*" else "*/"):
                depth -= 1
        elif sign in ("(*", "/*"):
            depth, opener = 1, sign
    return depth > 0


def one_line(text: str) -> str:
    """Free text made fit for a `//` comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
