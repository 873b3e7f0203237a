"""The command line that tuf-conformance drives (its CLIENT-CLI protocol): ``init``, ``refresh``, ``download``.

The same updater and the same fetcher as ``agent.verify`` runs over a ``sync`` answer, with the site binding off: the
files come one by one over HTTP instead of from one bundle, and everything behind that is the agent's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from agent.verify import _Bundle
from manifests.errors import TrustError

TIMEOUT_S = 10.0


class Remote(Mapping[str, bytes]):
    """A repository's files by name, asked for one at a time; what answers 404 is not in it."""

    def __init__(self, base: str, pool: urllib3.PoolManager) -> None:
        self._base, self._pool = base.rstrip("/"), pool

    def __getitem__(self, name: str) -> bytes:
        answer = self._pool.request("GET", f"{self._base}/{name}", retries=False, redirect=False, timeout=TIMEOUT_S)
        if answer.status in (403, 404):
            raise KeyError(name)
        if answer.status != 200:
            raise DownloadHTTPError("refused", answer.status)
        return answer.data

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Fetcher(_Bundle):
    """Metadata as the agent takes it; targets as plain bytes, which the agent fetches another way."""

    def __init__(self, files: Mapping[str, bytes], targets: FetcherInterface | None = None) -> None:
        super().__init__(files, {}, None)
        self._pool = urllib3.PoolManager()

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self._pool.request("GET", url, retries=False, redirect=False, timeout=TIMEOUT_S, preload_content=False)
        if answer.status != 200:
            raise DownloadHTTPError(f"{urlsplit(url).path}: {answer.status}", answer.status)
        yield from answer.stream(1 << 16)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tuf_client", description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    asked = parser.parse_args(arguments)
    pinned = asked.metadata_dir / "pinned" / "root.json"
    if asked.command == "init":
        pinned.parent.mkdir(parents=True, exist_ok=True)
        pinned.write_bytes(asked.root.read_bytes())
        (asked.metadata_dir / "root.json").write_bytes(asked.root.read_bytes())
        return 0
    try:
        fetcher = Fetcher(Remote(asked.metadata_url, urllib3.PoolManager()))
        updater = Updater(
            str(asked.metadata_dir),
            asked.metadata_url,
            str(asked.target_dir) if asked.target_dir else None,
            asked.target_base_url,
            fetcher=fetcher,
            bootstrap=pinned.read_bytes(),
        )
        updater.refresh()
        if asked.command == "download":
            found = updater.get_targetinfo(asked.target_name)
            if found is None:
                print(f"no target {unquote(asked.target_name)}", file=sys.stderr)
                return 1
            if updater.find_cached_target(found) is None:
                updater.download_target(found)
    except (RepositoryError, DownloadError, TrustError, OSError, urllib3.exceptions.HTTPError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
