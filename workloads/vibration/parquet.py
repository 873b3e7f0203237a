"""Columns of numbers out of and into Parquet files.

Called by ``files`` and ``export``. The library weighs more than the rest of the workload together, so it is an extra
of its own (``vibration-files``) and not in the container image: without it Parquet is refused, saying so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = "Parquet needs pyarrow, which is not installed: pip install 'sluice[vibration-files]'"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(MISSING) from error
    return pyarrow


def columns(path: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Names and values (rows x columns) of the numeric columns. Raises ValueError saying what is wrong."""
    arrow = _pyarrow()
    try:
        table = arrow.parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"no Parquet file: {error}") from error
    kinds = arrow.types
    names = [one.name for one in table.schema if kinds.is_floating(one.type) or kinds.is_integer(one.type)]
    if not names:
        raise ValueError("no column of numbers in it")
    return names, np.column_stack([np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names])


def write(path: Path, rows: Sequence[Mapping[str, str | float | int | None]]) -> None:
    """``rows`` of equal keys. Raises ValueError without the library."""
    arrow = _pyarrow()
    clean = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]
    arrow.parquet.write_table(arrow.Table.from_pylist(clean), path)
