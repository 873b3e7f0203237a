"""The payload of a DESCRIPTOR frame: what the tag numbers of the blocks behind it mean.

JSON, so that a person can read it; a long one is packed as a whole with zstd, because a frame holds 1 MB and a server
of 20,000 tags describes itself in five. Workloads encode, the centre decodes; the agent never opens one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import zstandard

from manifests.errors import DocumentError, Problem
from manifests.messages import Descriptor, Tag

PLAIN_BYTES = 64 << 10  # up to here readable on the wire is worth more than small
MAX_UNPACKED_BYTES = 64 << 20  # stops a decompression bomb
_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878: no JSON text begins so
_decoder = msgspec.json.Decoder(Descriptor)


def encode(tags: Sequence[Tag]) -> bytes:
    data = msgspec.json.encode(Descriptor(tags=tuple(tags)))
    return data if len(data) <= PLAIN_BYTES else zstandard.ZstdCompressor(level=3).compress(data)


def decode(data: bytes) -> Descriptor:
    """Raises DocumentError when ``data`` is not a descriptor, whatever its bytes."""
    try:
        if data.startswith(_MAGIC):
            size = zstandard.get_frame_parameters(data).content_size  # "unknown" is 2**64 - 1
            if size > MAX_UNPACKED_BYTES:
                raise ValueError("larger than allowed once unpacked, or of undeclared size")
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_UNPACKED_BYTES)
        return _decoder.decode(data)
    except (msgspec.MsgspecError, zstandard.ZstdError, ValueError, RecursionError) as error:
        raise DocumentError([Problem(where="frame", path="", what=f"not a descriptor: {error}")]) from error
