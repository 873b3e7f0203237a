"""A scripted orchestrator for the console's browser tests: the real shapes and headers, invented plants.

The console tests start it, and people who draw pages may (``python -m tests.support.console_backend --help``). Every
answer is built from ``orchestrator.api.schemas``, so a shape that changes breaks here first. It serves the built
console under the same Content-Security-Policy as the orchestrator. It decides nothing and stores nothing: page states
(no sites, few, two thousand, failing, silent) are scenes that a test chooses and changes while the page looks on.
"""

from tests.support.console_backend.app import DIST, build_app
from tests.support.console_backend.scene import PASSWORD, SETUP_CODE, Scene
from tests.support.console_backend.sites import Plants

__all__ = ["DIST", "PASSWORD", "SETUP_CODE", "Plants", "Scene", "build_app"]
