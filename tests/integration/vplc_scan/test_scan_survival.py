"""kill -9 of a driver and of the host, at any moment: no torn set, outputs move on, drivers need no restart."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import build, watch
from vplc.scan.image import Quality

WIDTH = 120
# Every input must carry the same number; the program counts the scans in which they do not.
ALIKE = f"""PROGRAM Alike
VAR
  numbers AT %IW0 : ARRAY[0..{WIDTH - 1}] OF UINT;
  echo AT %QW0 : ARRAY[0..{WIDTH - 1}] OF UINT;
  torn AT %QW{WIDTH} : UINT;
  n : UDINT; i : INT; seen : UDINT; last : UINT;
END_VAR
n := n + 1;
FOR i := 1 TO {WIDTH - 1} DO
  IF numbers[i] <> numbers[0] THEN torn := torn + 1; END_IF;
END_FOR;
IF numbers[0] <> last THEN seen := seen + 1; last := numbers[0]; END_IF;
FOR i := 0 TO {WIDTH - 1} DO echo[i] := UDINT_TO_UINT(n MOD 65536); END_FOR;
END_PROGRAM
"""
DRIVERS = {
    "io": {
        "inputs": [{"name": f"i{i}", "address": f"%IW{i}"} for i in range(WIDTH)],
        "outputs": [
            *({"name": f"o{i}", "address": f"%QW{i}"} for i in range(WIDTH)),
            {"name": "torn", "address": f"%QW{WIDTH}"},
        ],
    }
}
# A driver that only writes and reads, as fast as it can, and says when a set of outputs is not of one scan.
HAMMER = f"""
import sys
from pathlib import Path
from vplc.scan.image import DriverImage
io = DriverImage(Path(sys.argv[1]), "io")
print("attached", flush=True)
n = 0
while True:
    n = (n + 1) % 65536
    io.write({{f"i{{i}}": n for i in range({WIDTH})}})
    found = io.read()
    if len({{found[f"o{{i}}"].value for i in range({WIDTH})}}) != 1:
        print("torn", flush=True)
"""


def hammer(site: Site) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HAMMER, str(site.run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    site.processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "attached\n"
    return process


def test_two_processes_without_a_pause_never_see_a_torn_set_though_the_writer_is_killed(site: Site) -> None:
    tool, source = site.folder / "hammer", Path(__file__).with_name("hammer.c")
    native = [str(build.NATIVE / "image.c"), "-I", str(build.NATIVE)]
    subprocess.run([*build.compiler(), "-O2", "-o", str(tool), str(source), *native], check=True)

    def side(name: str, sets: int) -> subprocess.Popen[str]:
        command = [str(tool), str(site.run / "hammered"), name, str(sets)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        site.processes.append(process)
        return process

    for _ in range(10):
        writer = side("write", 0)
        reader = side("read", 3000)
        said, _ = reader.communicate(timeout=60)
        writer.kill()
        writer.wait()
        assert (said, reader.returncode) == ("whole\n", 0)


def test_no_set_is_ever_torn_while_drivers_are_killed_at_any_moment(site: Site) -> None:
    site.configure(compile_st(site.folder, ALIKE), drivers=DRIVERS, interval_ms=1, core=0)
    site.start()
    watcher = watch.Watcher(site.run, ["Alike.seen", "Alike.torn", "Alike.n"])

    def number(name: str) -> int:
        return int(str(watcher.ask().values[f"Alike.{name}"]))

    for kill in range(12):
        before = number("seen")
        process = hammer(site)
        until("values of the new driver", lambda before=before: number("seen") > before + 20)  # type: ignore[misc]
        time.sleep(0.0007 * kill)  # another place in the driver's cycle each time
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""
        scans = number("n")
        until("scans without a driver", lambda scans=scans: number("n") > scans + 5)  # type: ignore[misc]
    assert number("torn") == 0
    assert site.now().unpublished == 0
    watcher.close()


def test_a_driver_outlives_the_host_and_sees_its_death_as_age(site: Site) -> None:
    site.configure(compile_st(site.folder, ALIKE), drivers=DRIVERS)
    process = site.start()
    io = site.driver()
    io.write({f"i{i}": 9 for i in range(WIDTH)})
    until("the input", lambda: io.effective()["i0"] is Quality.GOOD)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until("old outputs", lambda: (io.output_age_ns() or 0) > 200_000_000)
    found = site.now()
    assert (found.phase, found.alive, found.healthy) == ("dead", False, False)
    published = io.published()
    site.start()
    until("new outputs", lambda: io.published() > published + 3)
    until("the input as it was", lambda: io.effective()["i0"] is Quality.GOOD)


def test_a_driver_follows_a_host_that_restarts_with_other_channels(site: Site) -> None:
    site.configure(compile_st(site.folder, ALIKE), drivers=DRIVERS)
    process = site.start()
    io = site.driver()
    site.stop(process)
    site.configure(site.folder / "program.so", drivers={"io": {"inputs": [{"name": "other", "address": "%IW5"}]}})
    site.start()
    assert io.follow()
    assert list(io.inputs) == ["other"]
    io.write({"other": 3})
    until("the input", lambda: io.effective()["other"] is Quality.GOOD)
