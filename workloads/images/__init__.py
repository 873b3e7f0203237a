"""Builds the container images, so that neither a registry nor a network is needed while they build.

Called by `./run images`, the demo and the tests; nothing here runs in a plant. It refuses to push, to pull
and to let a tag decide anything: a tag here is a label for people, the product goes by digest.

`ImageError` carries what went wrong, where, and the remedy.
"""

from __future__ import annotations


class ImageError(Exception):
    """An image cannot be built: says what, where and what to do about it."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}\nhint: {remedy}")
        self.what = what
        self.where = where
        self.remedy = remedy
