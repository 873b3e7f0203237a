"""`vplc bench`: nanoseconds per scan, and what compiling costs."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence

from vplc.compiler.build import compile_sources
from vplc.compiler.source import Diagnostics, Source, UnsupportedError
from vplc.runtime.host import Host
from vplc.runtime.run import choose, parse_period
from vplc.runtime.values import Json, PathError, find, read

REPEATS = 5


def bench_command(sources: Sequence[Source], diagnostics: Diagnostics, options: argparse.Namespace) -> int:
    if options.scans < 1:
        raise UnsupportedError("--scans: measure at least one scan")
    build = compile_sources(sources, options.profile, diagnostics)
    instance = choose(build.program, options.program)
    host = Host(build, options.level)
    compile_cpu_s = time.process_time()
    compile_peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    period = parse_period(options.period)
    loop = host.looper(instance)
    times: list[float] = []
    for _ in range(REPEATS):
        host.init()
        begin = time.perf_counter_ns()
        status = loop(host.address, options.scans, 0, period)
        times.append((time.perf_counter_ns() - begin) / options.scans)
        if status:
            sys.stdout.write(json.dumps({"fault": host.fault().as_json()}) + "\n")
            return 1
    result: dict[str, Json] = {
        "program": options.program or instance.name,
        "scans": options.scans,
        "ns_per_scan": min(times),
        "ns_per_scan_best": min(times),
        "ns_per_scan_median": statistics.median(times),
        "compile_cpu_s": compile_cpu_s,
        "compile_peak_mb": compile_peak_mb,
    }
    for name in ("chk", "chkr"):
        try:
            result[name] = read(host.memory, find(build.program, instance, name, build.layout))
        except PathError:
            continue
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for key, value in result.items():
            sys.stdout.write(f"{key}: {value}\n")
    return 0
