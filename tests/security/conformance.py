"""``./run conformance``: what others test of TUF clients, over the agent's own fetcher and the same updater.

Two suites. python-tuf's own tests of its updater, out of its source archive, with the agent's fetcher between the
updater and their simulated repository. And tuf-conformance, against ``tests.security.tuf_client``, where it is
installed or ``TUF_CONFORMANCE`` names a checkout: it is not in the package index, so it cannot be fetched here.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = (
    "test_updater_top_level_update", "test_updater_key_rotations", "test_updater_delegation_graphs",
    "test_updater_consistent_snapshot", "test_updater_fetch_target",
)  # fmt: skip
# Put before their tests: every updater they make reads metadata through the agent's fetcher.
PLUGIN = '''
import sys
sys.path.append({root!r})
from tuf.ngclient import Updater
from agent.verify import _Bundle


class Between(_Bundle):
    """Counts what passes through the agent's fetcher; targets go straight to their simulator."""

    passed = 0

    def __init__(self, inner):
        super().__init__({{}}, {{}}, None)
        self._inner = inner

    def download_bytes(self, url, max_length):
        Between.passed += 1
        inner = self._inner

        class Asked(dict):
            def get(self, name, default=None):
                from tuf.api.exceptions import DownloadHTTPError
                try:
                    return b"".join(inner.fetch(url))
                except DownloadHTTPError as error:
                    if error.status_code in (403, 404):
                        return default
                    raise

        self._new = Asked()
        return super().download_bytes(url, max_length)

    def _fetch(self, url):
        yield from self._inner.fetch(url)


_made = Updater.__init__


def _init(self, *args, fetcher=None, **options):
    args = list(args)
    if len(args) > 4:
        args[4] = Between(args[4]) if args[4] is not None else None
    elif fetcher is not None:
        fetcher = Between(fetcher)
    return _made(self, *args, **({{"fetcher": fetcher}} if len(args) <= 4 else {{}}), **options)


Updater.__init__ = _init


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{{Between.passed}} metadata files went through the agent's fetcher")
    assert Between.passed
'''


def main() -> int:
    failed = _updater_tests()
    suite = os.environ.get("TUF_CONFORMANCE", "")
    if not suite and importlib.util.find_spec("tuf_conformance") is None:
        print("tuf-conformance: NOT RUN: not installed (set TUF_CONFORMANCE to a checkout of it)", file=sys.stderr)
        return failed
    with tempfile.TemporaryDirectory() as name:
        client = Path(name) / "client"
        client.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.security.tuf_client "$@"\n')
        client.chmod(0o755)
        found = importlib.util.find_spec("tuf_conformance")
        place = Path(suite) / "tuf_conformance" if suite or found is None else Path(str(found.origin)).parent
        command = [sys.executable, "-m", "pytest", str(place), "--entrypoint", str(client), "-q"]
        return failed | subprocess.run(command, check=False, cwd=place.parent).returncode


def _updater_tests() -> int:
    wanted = f"tuf=={version('tuf')}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        fetch = [*pip, "download", "--no-deps", "--no-binary", ":all:", wanted, "-d", name]
        done = subprocess.run(fetch, check=False)
        extra = folder / "extra"  # what their tests need besides
        subprocess.run([*pip, "install", "--target", str(extra), "freezegun"], check=False)
        archive = next(folder.glob("tuf-*.tar.gz"), None)
        if done.returncode != 0 or archive is None:
            print(f"{wanted}: its source archive cannot be fetched from the package index", file=sys.stderr)
            return 1
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        place = next(path for path in folder.iterdir() if path.is_dir() and path != extra)
        (place / "sluice_fetcher.py").write_text(PLUGIN.format(root=str(ROOT)))
        files = [f"tests/{one}.py" for one in SUITE]
        command = [sys.executable, "-m", "pytest", "-p", "sluice_fetcher", "-p", "no:cacheprovider", "-q", *files]
        path = os.pathsep.join([str(place), str(extra), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(command, check=False, cwd=place, env={**os.environ, "PYTHONPATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
