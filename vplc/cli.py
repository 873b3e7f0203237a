"""The command line: reads arguments, calls the compiler, prints. Flags and JSON shapes are a contract.

Exit codes: 0 done, 1 the program (or a test) is wrong, 2 the command line is wrong. Never a traceback.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vplc.compiler.front import front, read_source
from vplc.compiler.model import PROFILES
from vplc.compiler.source import CompileError, Diagnostics, Source, UnsupportedError, nearest
from vplc.fmt.command import add_arguments as fmt_arguments
from vplc.fmt.command import run as fmt_run

ERRORS = Path(__file__).resolve().parent / "errors"
TARGETS = ("x86-64", "aarch64", "armv7", "riscv64")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # never returns, like the original
        self.print_usage(sys.stderr)
        out(f"{self.prog}: {message}", err=True)
        raise SystemExit(2)


def out(text: str, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    stream.write(text + "\n")


def arguments() -> argparse.ArgumentParser:
    parser = Parser(prog="vplc", description="IEC 61131-3 Structured Text to native code.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    def command(name: str, text: str, files: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if files:
            sub.add_argument("files", nargs="+", metavar="FILE", help="Structured Text, or PLCopen XML (*.xml)")
            sub.add_argument("--profile", choices=PROFILES, default="iec")
            sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    command("check", "Report everything that is wrong with the files.")
    build = command("build", "Compile to a shared library and its layout file.")
    build.add_argument("-o", dest="out", required=True, metavar="OUT.so")
    build.add_argument("--target", choices=TARGETS, default="x86-64")
    build.add_argument("-O", dest="level", type=int, choices=(0, 1, 2), default=2)
    run = command("run", "Run scans of a program on a virtual clock.")
    run.add_argument("--program", default="", metavar="P")
    run.add_argument("--scans", type=int, default=1, metavar="N")
    run.add_argument("--period", default="10ms", help="virtual time from scan to scan, like 10ms")
    run.add_argument("--set", action="append", default=[], metavar="PATH=VALUE@SCAN", dest="sets")
    run.add_argument("--watch", action="append", default=[], metavar="PATH,...")
    run.add_argument("--csv", action="store_true", help="a header row, then one row per scan")
    run.add_argument("-O", dest="level", type=int, choices=(0, 1, 2), default=1)
    test = command("test", "Run unit tests written in Structured Text.")
    test.add_argument("--test", nargs="+", required=True, metavar="TESTFILE", dest="tests")
    bench = command("bench", "Measure compiling and scanning.")
    bench.add_argument("--program", default="", metavar="P")
    bench.add_argument("--scans", type=int, default=1000, metavar="N")
    bench.add_argument("--period", default="1ms")
    bench.add_argument("-O", dest="level", type=int, choices=(0, 1, 2), default=2)
    fmt = command("fmt", "Format Structured Text.", files=False)
    fmt_arguments(fmt)
    fmt.add_argument("--profile", choices=PROFILES, default="iec", help="accepted as elsewhere; the layout is the same")
    lsp = command("lsp", "Serve an editor over the standard streams (Language Server Protocol).", files=False)
    lsp.add_argument("--profile", choices=PROFILES, default=None, help="where no vplc.json gives one (default: iec)")
    lsp.add_argument("--debounce", type=int, default=250, metavar="MS", help="wait after the last key before checking")
    simulate = command("simulate", "Run a program against a model of its plant in virtual time.", files=False)
    simulate.add_argument("project", metavar="PROJECT.yaml")
    simulate.add_argument("--json", action="store_true", help="print the report")
    simulate.add_argument("--csv", metavar="OUT.csv", help="write every sample")
    simulate.add_argument("--plot", metavar="OUT.svg|html|png", help="draw the plots of the project")
    commission = command("commission", "Unit tests, simulation and build of one project in one report.", files=False)
    commission.add_argument("project", metavar="PROJECT.yaml")
    commission.add_argument("--json", action="store_true", help="print the report")
    commission.add_argument("-o", dest="out", metavar="FOLDER", help="for the libraries (default: build beside it)")
    explain = command("explain", "Explain an error code.", files=False)
    explain.add_argument("code", metavar="E012")
    return parser


def main(argv: list[str]) -> int:
    """Runs one command; the result is the exit code."""
    options = arguments().parse_args(argv)
    try:
        if options.command == "explain":
            return explain(options.code)
        if options.command == "fmt":
            return fmt_run(options)
        if options.command == "lsp":
            return lsp(options)
        return int(_COMMANDS[options.command](options))
    except CompileError as error:
        report(error.diagnostics, options.json)
        return 1
    except UnsupportedError as error:
        message = f"vplc: {error}"
        out(json.dumps({"ok": False, "error": str(error)}) if options.json else message, err=not options.json)
        return 1
    except BrokenPipeError:
        return 1
    except RecursionError:
        out("vplc: the program is nested too deeply to compile", err=True)
        return 1


def load(files: list[str], diagnostics: Diagnostics) -> list[Source]:
    """The sources; PLCopen XML files become Structured Text."""
    sources = []
    for name in files:
        if name.lower().endswith(".xml"):
            sources.append(load_project(name, diagnostics))
        else:
            sources.append(read_source(name, diagnostics))
    return sources


def load_project(name: str, diagnostics: Diagnostics) -> Source:
    """A PLCopen XML file as Structured Text. What cannot be taken is an error when the program would differ."""
    from vplc.plcopen.read import read_project

    return read_project(name, diagnostics)


def report(diagnostics: Diagnostics, as_json: bool) -> None:
    items = diagnostics.sorted()
    if as_json:
        out(
            json.dumps(
                {
                    "ok": diagnostics.errors == 0,
                    "errors": diagnostics.errors,
                    "warnings": sum(1 for d in items if d.severity == "warning"),
                    "diagnostics": [d.as_json() for d in items],
                }
            )
        )
        return
    for item in items:
        out(item.render())
    if diagnostics.errors:
        shown = sum(1 for d in items if d.severity == "error")
        more = f" ({shown} shown)" if shown < diagnostics.errors else ""
        out(f"{diagnostics.errors} error{'s' if diagnostics.errors > 1 else ''}{more}; vplc explain CODE tells more")


def check(options: argparse.Namespace) -> int:
    diagnostics = Diagnostics()
    sources = load(options.files, diagnostics)
    try:
        front(sources, options.profile, diagnostics)
    except CompileError:
        pass
    report(diagnostics, options.json)
    return 1 if diagnostics.errors else 0


def explain(code: str) -> int:
    page = ERRORS / f"{code.upper()}.md"
    if not code.isalnum() or not page.is_file():
        hint = nearest(code, [p.stem for p in ERRORS.glob("[EW]*.md")])
        out(f"vplc: there is no code {code}" + (f" - {hint}" if hint else ""), err=True)
        return 1
    out(page.read_text("utf-8").rstrip())
    return 0


def lsp(options: argparse.Namespace) -> int:
    try:
        from vplc.lsp.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("pygls", "lsprotocol"):
            raise
        out("vplc: the language server needs pygls: pip install 'sluice[vplc-lsp]'", err=True)
        return 1
    return serve(options.profile, options.debounce)


def build(options: argparse.Namespace) -> int:
    from vplc.compiler.build import compile_sources, seal
    from vplc.compiler.codegen.backend import compile_object
    from vplc.compiler.link import link_shared

    target_path = Path(options.out)
    if not target_path.resolve().parent.is_dir():
        raise UnsupportedError(f"the folder {target_path.parent} does not exist")
    diagnostics = Diagnostics()
    made = compile_sources(load(options.files, diagnostics), options.profile, diagnostics)
    ir, document = seal(made, options.target)
    objects = compile_object(ir, options.target, options.level)
    link_shared(objects, target_path, options.target)
    layout_path = target_path.with_suffix(".json") if target_path.suffix == ".so" else Path(str(target_path) + ".json")
    layout_path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if options.json:
        out(
            json.dumps(
                {
                    "ok": True,
                    "library": str(target_path),
                    "layout": str(layout_path),
                    "target": options.target,
                    "state_size": made.layout.size,
                    "retain_size": made.layout.retain_size,
                }
            )
        )
    else:
        report(diagnostics, False)
        out(f"{target_path}: {options.target}, state {made.layout.size} bytes; layout in {layout_path}")
    return 0


def run(options: argparse.Namespace) -> int:
    from vplc.runtime.run import run_command

    diagnostics = Diagnostics()
    return run_command(load(options.files, diagnostics), diagnostics, options)


def test(options: argparse.Namespace) -> int:
    from vplc.runtime.testing import test_command

    diagnostics = Diagnostics()
    return test_command(load(options.files, diagnostics), load(options.tests, diagnostics), diagnostics, options)


def bench(options: argparse.Namespace) -> int:
    from vplc.runtime.measure import bench_command

    diagnostics = Diagnostics()
    return bench_command(load(options.files, diagnostics), diagnostics, options)


def simulate(options: argparse.Namespace) -> int:
    from vplc.simulate.command import simulate_command

    return simulate_command(options)


def commission(options: argparse.Namespace) -> int:
    from vplc.simulate.command import commission_command

    return commission_command(options)


_COMMANDS = {
    "check": check,
    "build": build,
    "run": run,
    "test": test,
    "bench": bench,
    "simulate": simulate,
    "commission": commission,
}
