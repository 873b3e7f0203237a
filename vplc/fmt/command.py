"""`vplc fmt`: formats files in place, or says what it would do.

Exit code 1 when a file was refused, or, with `--check`, when one would change. A file is replaced as a whole or
not touched; its encoding, byte order mark and permissions stay.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vplc.compiler.front import MAX_BYTES
from vplc.fmt.style import Style
from vplc.fmt.text import Refused, format_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="Structured Text; - reads and writes the standard streams"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file would change")
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")
    parser.add_argument("--stdout", action="store_true", help="write nothing; print the formatted text")
    parser.add_argument("--indent", type=int, choices=range(1, 9), default=4, metavar="N", help="spaces per level (4)")
    parser.add_argument("--width", type=_width, default=120, metavar="N", help="wrap beyond this column (120)")


def _width(text: str) -> int:
    width = int(text)
    if not 40 <= width <= 400:
        raise argparse.ArgumentTypeError("a width lies between 40 and 400")
    return width


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text and how it was encoded."""

    text: str
    encoding: str
    mark: bytes

    def encode(self, text: str) -> bytes:
        return self.mark + text.encode(self.encoding)


def decode(data: bytes) -> Document:
    """Raises ValueError when the bytes are no text in one of the three encodings, or would not come back the same."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = [("utf-16-le" if data[:2] == b"\xff\xfe" else "utf-16-be", data[:2])]
    elif data[:3] == b"\xef\xbb\xbf":
        encodings = [("utf-8", data[:3])]
    else:
        encodings = [("utf-8", b""), ("cp1252", b"")]
    for encoding, mark in encodings:
        try:
            document = Document(data[len(mark) :].decode(encoding), encoding, mark)
        except UnicodeDecodeError:
            continue
        if document.encode(document.text) == data:
            return document
    raise ValueError("it is not text in UTF-8, UTF-16 or Windows-1252")


def run(options: argparse.Namespace) -> int:
    style = Style(options.indent, options.width)
    failed = False
    changed = 0
    for name in options.files:
        try:
            failed |= not _one(name, style, options)
        except _Changed:
            changed += 1
    if options.check and changed:
        _say(f"{changed} file{'s' if changed > 1 else ''} would change")
    return 1 if failed or (options.check and changed) else 0


class _Changed(Exception):  # noqa: N818  # it is an answer, not a failure
    """The file is not formatted (and now is, unless that was not wanted)."""


def _one(name: str, style: Style, options: argparse.Namespace) -> bool:
    """False when the file was refused; the reasons are printed. Raises _Changed."""
    if name.lower().endswith(".xml"):
        return _refuse(name, "PLCopen XML is no text to format; `python -m vplc.plcopen` makes Structured Text of it")
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if name == "-" else Path(name).read_bytes()
        if len(data) > MAX_BYTES:
            return _refuse(name, f"it is larger than {MAX_BYTES >> 20} MB")
        document = decode(data)
        formatted = format_text(document.text, name, style)
    except OSError as error:
        return _refuse(name, error.strerror or str(error))
    except ValueError as error:
        return _refuse(name, str(error))
    except RecursionError:
        return _refuse(name, "it is nested too deeply")
    except Refused as refused:
        for item in refused.diagnostics.sorted():
            if item.severity == "error":
                _say(item.render())
        return _refuse(name, refused.what)
    quiet = options.check or options.diff or options.stdout
    if options.stdout or (name == "-" and not quiet):
        sys.stdout.write(formatted)
    if formatted == document.text:
        return True
    if options.diff:
        sys.stdout.writelines(
            line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(
                document.text.splitlines(keepends=True), formatted.splitlines(keepends=True), name, name
            )
        )
    elif options.check:
        _say(f"{name}: would change")
    if not quiet and name != "-":
        try:
            replace(Path(name), document.encode(formatted))
        except OSError as error:
            return _refuse(name, error.strerror or str(error))
        _say(f"{name}: formatted")
    raise _Changed


def replace(path: Path, data: bytes) -> None:
    """Puts `data` in the file's place at once; a link stays a link, the permissions stay. Raises OSError."""
    path = path.resolve()
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _refuse(name: str, why: str) -> bool:
    _say(f"{name}: left as it is: {why}")
    return False


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
