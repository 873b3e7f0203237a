"""Samples of one stream into blocks: cut after a period or a count, whichever comes first.

Called by ``samples``. Adding is cheap and never waits; encoding happens when a block is cut. Bounded: a block never
grows beyond what one frame may carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from manifests.block import encode

# Raw bytes of a sample are 21; with this much text a full block stays under the 1 MB of a frame, compressed or not.
MAX_TEXT_BYTES = 512 * 1024


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """When a block is cut: it waits at most ``period_ms`` and holds at most ``max_samples``."""

    period_ms: Annotated[int, Meta(ge=50, le=60_000)] = 1000
    max_samples: Annotated[int, Meta(ge=1, le=10_000)] = 10_000


Cut = Callable[[bytes, int, int, int], None]  # block, count, first_ns, last_ns


class Batcher:
    """``cut`` receives each finished block."""

    def __init__(self, config: BlockConfig, cut: Cut) -> None:
        self._max_samples = config.max_samples
        self._cut = cut
        self._reset()

    def _reset(self) -> None:
        self._tag: list[int] = []
        self._ts: list[int] = []
        self._v: list[float] = []
        self._q: list[int] = []
        self._texts: dict[int, str] = {}
        self._text_bytes = 0

    def __len__(self) -> int:
        return len(self._tag)

    def add(self, tag: int, ts_ns: int, value: float, quality: int, text: str | None = None) -> None:
        if text is not None:
            self._texts[len(self._tag)] = text
            self._text_bytes += 4 * len(text)  # the most UTF-8 can need
        self._tag.append(tag)
        self._ts.append(ts_ns)
        self._v.append(value)
        self._q.append(quality)
        if len(self._tag) >= self._max_samples or self._text_bytes >= MAX_TEXT_BYTES:
            self.flush()

    def extend(self, tags: Sequence[int], ts_ns: int, values: Sequence[float], qualities: Sequence[int]) -> None:
        """Many numbers of one instant."""
        room = self._max_samples - len(self._tag)
        while len(tags) > room:
            self._take(tags[:room], ts_ns, values[:room], qualities[:room])
            self.flush()
            tags, values, qualities = tags[room:], values[room:], qualities[room:]
            room = self._max_samples
        self._take(tags, ts_ns, values, qualities)
        if len(self._tag) >= self._max_samples:
            self.flush()

    def _take(self, tags: Sequence[int], ts_ns: int, values: Sequence[float], qualities: Sequence[int]) -> None:
        self._tag.extend(tags)
        self._ts.extend([ts_ns] * len(tags))
        self._v.extend(values)
        self._q.extend(qualities)

    def flush(self) -> None:
        """Cut now; does nothing when empty."""
        if not self._tag:
            return
        tag, ts, v, q, texts = self._tag, self._ts, self._v, self._q, self._texts
        self._reset()
        s = [texts.get(i) for i in range(len(tag))] if texts else None
        self._cut(encode(tag, ts, v, q, s), len(tag), min(ts), max(ts))
