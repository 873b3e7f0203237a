"""The host as an ordinary user, as in a container: punctual with two capabilities, running all the same without."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.vplc_scan.scan_site import Site, compile_st, until
from vplc.scan import access, build, prepare, status
from vplc.scan.errors import NotRunning, Refused
from vplc.scan.image import DriverImage, Quality

USER = 10001
TEXT = """PROGRAM Echo
VAR a AT %IW0 : INT; b AT %QW0 : INT; END_VAR
b := a + 1;
END_PROGRAM
"""
DRIVERS = {"io": {"inputs": [{"name": "a", "address": "%IW0"}], "outputs": [{"name": "b", "address": "%QW0"}]}}
CAPABILITIES = "+sys_nice,+ipc_lock"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root and setpriv"
)


@pytest.fixture
def open_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that the other user can read, with host and program; the site's run folder becomes the user's."""
    with tempfile.TemporaryDirectory(prefix="vplc-user-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in (build.HOST, build.LIBRARY):
            shutil.copy2(build.find(name), folder)
        compile_st(folder, TEXT)
        monkeypatch.setenv("VPLC_SCAN_BIN", str(folder))
        yield folder


def launch(site: Site, folder: Path, *options: str) -> subprocess.Popen[str]:
    site.folder = folder
    config = site.configure(folder / "program.so", drivers=DRIVERS)
    as_user(lambda: prepare.take(site.run, prepare.prepare(config)), site.run)
    command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", *options, "--"]
    host = [str(folder / build.HOST), str(site.run / "plan"), str(site.run)]
    process = subprocess.Popen(
        ["prlimit", "--memlock=65536", *command, *host], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    site.processes.append(process)

    def scanning() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            found = status.read(site.run)
        except NotRunning:
            return False
        return found.phase == "running" and found.tasks[0].scans > 5

    until("the first scans", scanning)
    return process


def as_user(action: Callable[[], object], folder: Path) -> None:
    """Runs it in a process of the other user."""
    os.chown(folder, USER, USER)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def drive(site: Site) -> None:
    """A driver and a writer, both of the same user."""

    def action() -> None:
        with DriverImage(site.run, "io") as io, access.Access(site.run) as door:

            def echoed() -> bool:
                io.write({"a": 41})
                return io.read()["b"].value == 42 and io.effective()["a"] is Quality.GOOD

            until("the echo", echoed)
            door.force({"Echo.a": 9})
            until("the forced echo", lambda: io.read()["b"].value == 10)

    as_user(action, site.run)


def test_with_two_capabilities_an_ordinary_user_is_punctual(site: Site, open_folder: Path) -> None:
    granted = (f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}", f"--bounding-set=-all,{CAPABILITIES}")
    process = launch(site, open_folder, *granted)
    found = site.now()
    if found.fifo_priority is None:  # cgroups without a real-time share
        assert any("SCHED_FIFO" in a for a in found.alarms)
    else:
        assert found.fifo_priority == 80
    assert found.memory_locked
    assert Path(f"/proc/{process.pid}").stat().st_uid == USER
    drive(site)
    site.stop(process)


def test_without_any_capability_an_ordinary_user_runs_with_alarms(site: Site, open_folder: Path) -> None:
    process = launch(site, open_folder, "--bounding-set=-all")
    found = site.now()
    assert (found.fifo_priority, found.memory_locked) == (None, False)
    said = "\n".join(found.alarms)
    assert "SCHED_FIFO 80 refused" in said
    assert "memory is not locked" in said
    drive(site)
    site.stop(process)


def test_a_run_folder_of_another_user_is_refused_with_the_reason(site: Site, open_folder: Path) -> None:
    site.folder = open_folder
    config = site.configure(open_folder / "program.so", drivers=DRIVERS)
    (site.run / "lock").touch(0o600)

    def action() -> None:
        with pytest.raises(Refused, match="cannot use the run folder: Permission denied"):
            prepare.take(site.run, prepare.prepare(config))

    as_user(action, site.run)


def test_a_run_folder_without_room_is_refused_and_not_a_crash_later(site: Site, open_folder: Path) -> None:
    small = open_folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        site.folder = open_folder
        config = site.configure(open_folder / "program.so", drivers=DRIVERS)
        prepared = prepare.prepare(config)
        pid = os.fork()
        if pid == 0:
            try:
                prepare.take(small, prepared)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        host = [str(open_folder / build.HOST), str(small / "plan"), str(small)]
        done = subprocess.run(host, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "give the run folder more memory" in done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)
