"""Keep freed memory instead of giving it back to the system after every record.

Called once by the process that analyses record after record. Analysing one record takes and frees a megabyte; the C
library's default returns it each time and the kernel hands it out again page by page, which costs as much time as the
Fourier transforms do. What is kept is bounded by the largest record.
"""

from __future__ import annotations

import ctypes

# mallopt(3) of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """Says whether the C library could be told; one that cannot only costs time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES))
