"""``python -m tests.support.console_backend``: pages drawn without plants."""

from __future__ import annotations

import argparse

import uvicorn

from tests.support.console_backend import Plants, Scene, build_app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--tags-extra", type=int, default=0)
    parser.add_argument("--values-hz", type=float, default=2.0)
    parser.add_argument("--offline", nargs="*", default=[])
    parser.add_argument("--broken", nargs="*", default=[])
    parser.add_argument("--empty-site")
    parser.add_argument("--rollout", default="running")
    parser.add_argument("--young", action="store_true", help="the trends begin two minutes ago")
    parser.add_argument("--silent", nargs="*", default=[], help="names of tags that send nothing")
    parser.add_argument("--setup", action="store_true", help="no password has been set yet")
    given = parser.parse_args()
    scene = Scene(
        sites=given.sites,
        tags_extra=given.tags_extra,
        values_hz=given.values_hz,
        offline=frozenset(given.offline),
        broken=frozenset(given.broken),
        empty_site=given.empty_site,
        rollout=given.rollout,
        young=given.young,
        silent=frozenset(given.silent),
        password_set=not given.setup,
    )
    uvicorn.run(build_app(Plants(scene)), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
