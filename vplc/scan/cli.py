"""`python -m vplc.scan`: build the host, run a program, look at it.

Exit codes: 0 done, 1 refused or not running, 2 the command line is wrong. Never a traceback.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from vplc.scan import access, build, change, prepare, standby, status, watch, witness
from vplc.scan.errors import Problem, Refused, ScanError
from vplc.scan.values import Json


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vplc.scan", description="Hard-paced scans of compiled programs.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    made = command("build", "Compile the native scan host.")
    made.add_argument("-o", dest="out", metavar="FOLDER", help="default: a cache folder")
    made.add_argument("--target", choices=build.TARGETS, default="native")
    for name, text in (("check", "Check a configuration and its program."), ("run", "Check, then become the host.")):
        sub = command(name, text)
        sub.add_argument("configuration", metavar="SCAN.json")
        sub.add_argument("--cold", action="store_true", help="do not restore retained values")
        sub.add_argument("--folder", help="run folder, on tmpfs (default: /dev/shm/vplc-NAME)")
    sub = command("change", "Give a running host another version of its program.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub.add_argument("configuration", metavar="SCAN.json")
    sub = command("status", "What a host does; exit code 1 unless it runs and no task is in fault.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub = command("watch", "Live values of variables; a structure or instance shows all its parts.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub.add_argument("paths", nargs="+", metavar="PATH")
    sub.add_argument("--every", type=float, default=0.0, metavar="S", help="repeat (default: once)")
    for name, text in (
        ("write", "Write variables once, all between the same two scans."),
        ("force", "Hold variables at values until they are unforced."),
    ):
        sub = command(name, text)
        sub.add_argument("folder", metavar="FOLDER|NAME")
        sub.add_argument("changes", nargs="+", metavar="PATH=VALUE", help="values as in JSON; other words are texts")
    sub = command("unforce", "Let forced variables go.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub.add_argument("paths", nargs="*", metavar="PATH")
    sub.add_argument("--all", action="store_true", help="all that is forced")
    sub = command("forces", "What is forced now.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub = command("switch", "Let a leading host hand over to its standby, without losing a scan.")
    sub.add_argument("folder", metavar="FOLDER|NAME")
    sub.add_argument("--lead", action="store_true", help="make a host lead that found no leader")
    sub = command("witness", "Decide on a third machine which of two hosts may drive when they lose each other.")
    sub.add_argument("address", metavar="IP:PORT", help="where to listen (UDP)")
    return parser


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    options = arguments().parse_args(argv)
    try:
        return int(COMMANDS[options.command](options))
    except ScanError as error:
        if options.json:
            problems = error.problems if isinstance(error, Refused) else ()
            rows = [{"where": p.where, "what": p.what, "hint": p.hint} for p in problems]
            out(json.dumps({"ok": False, "error": str(error), "retryable": error.retryable, "problems": rows}))
        else:
            sys.stderr.write(f"{error}\n")
        return 1
    except (BrokenPipeError, KeyboardInterrupt):
        return 1


def _build(options: argparse.Namespace) -> int:
    folder = build.build(Path(options.out) if options.out else None, options.target)
    out(json.dumps({"ok": True, "folder": str(folder)}) if options.json else str(folder / build.HOST))
    return 0


def _check(options: argparse.Namespace) -> int:
    prepared = prepare.prepare(Path(options.configuration), warm=not options.cold)
    _tell(options, prepared)
    return 0


def _tell(options: argparse.Namespace, prepared: prepare.Prepared, **more: str) -> None:
    if options.json:
        row = {"ok": True, "restored": prepared.restored, "not_restored": list(prepared.report), **more}
        out(json.dumps(row))
        return
    for line in prepared.report:
        out(f"retain: {line}")
    for key, value in more.items():
        out(f"{key}: {value}")


def _run(options: argparse.Namespace) -> int:
    prepared = prepare.prepare(Path(options.configuration), warm=not options.cold)
    folder = Path(options.folder) if options.folder else prepare.run_folder(prepared.configuration.name)
    prepare.take(folder, prepared)
    _tell(options, prepared, folder=str(folder))
    prepare.become_host(folder)
    return 1


def _change(options: argparse.Namespace) -> int:
    verdict = change.change(_folder(options.folder), Path(options.configuration))
    if options.json:
        out(json.dumps({"ok": verdict.taken_over, **asdict(verdict)}))
        return 0 if verdict.taken_over else 1
    for line in verdict.report:
        out(f"variable: {line}")
    if not verdict.taken_over:
        out(f"{verdict.reason}; version {verdict.version} goes on")
        return 1
    out(f"version {verdict.version} runs; the change took {verdict.swap_ns / 1000:.1f} us of a scan")
    return 0


def _folder(name: str) -> Path:
    return Path(name) if "/" in name or Path(name).is_dir() else prepare.run_folder(name)


def _status(options: argparse.Namespace) -> int:
    found = status.read(_folder(options.folder))
    out(json.dumps(found.as_json()) if options.json else status.render(found))
    return 0 if found.healthy else 1


def _watch(options: argparse.Namespace) -> int:
    watcher = watch.Watcher(_folder(options.folder), options.paths)
    try:
        while True:
            answer = watcher.ask()
            if options.json:
                out(json.dumps({"time_ns": answer.time_ns, "values": answer.values}))
            else:
                out("  ".join(f"{k} = {json.dumps(v)}" for k, v in answer.values.items()))
            if options.every <= 0:
                return 0
            time.sleep(options.every)
    finally:
        watcher.close()


def _changes(options: argparse.Namespace) -> dict[str, Json]:
    found: dict[str, Json] = {}
    problems = []
    for text in options.changes:
        path, equals, value = text.partition("=")
        if not equals or path in found:
            what = "is given twice" if equals else "says no value"
            problems.append(Problem(path, what, "write PATH=VALUE, such as Main.level=1.5"))
        elif value.upper() in ("TRUE", "FALSE"):
            found[path] = value.upper() == "TRUE"
        else:
            try:
                found[path] = json.loads(value)
            except ValueError:
                found[path] = value
    if problems:
        raise Refused(problems)
    return found


def _write(options: argparse.Namespace) -> int:
    changes = _changes(options)
    with access.Access(_folder(options.folder)) as door:
        (door.force if options.command == "force" else door.write)(changes)
    if options.json:
        out(json.dumps({"ok": True}))
    return 0


def _unforce(options: argparse.Namespace) -> int:
    if options.all == bool(options.paths):
        raise Refused([Problem("unforce", "needs either paths or --all")])
    with access.Access(_folder(options.folder)) as door:
        door.unforce(None if options.all else options.paths)
    if options.json:
        out(json.dumps({"ok": True}))
    return 0


def _forces(options: argparse.Namespace) -> int:
    with access.Access(_folder(options.folder)) as door:
        found = door.forced()
    if options.json:
        out(json.dumps({"forces": found}))
    else:
        out("\n".join(f"{k} = {json.dumps(v)}" for k, v in found.items()) or "nothing is forced")
    return 0


def _switch(options: argparse.Namespace) -> int:
    found = standby.switch(_folder(options.folder), access.user(), options.lead)
    pair = found.pair
    if options.json:
        out(json.dumps({"ok": True, "epoch": pair.epoch if pair else 0}))
    elif pair:
        out(f"{pair.duty}, epoch {pair.epoch}")
    return 0


def _witness(options: argparse.Namespace) -> int:
    witness.serve(
        options.address, lambda at: out(json.dumps({"listening": at}) if options.json else f"listening on {at}")
    )
    return 0


COMMANDS = {
    "build": _build,
    "check": _check,
    "run": _run,
    "change": _change,
    "status": _status,
    "watch": _watch,
    "write": _write,
    "force": _write,
    "unforce": _unforce,
    "forces": _forces,
    "switch": _switch,
    "witness": _witness,
}
