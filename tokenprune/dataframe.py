"""Rows of plain values as pandas has them, which nothing else here needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def data_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A `pandas.DataFrame`. ImportError says what to install."""
    try:
        import pandas  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("data frames need pandas: pip install pandas") from None
    return pandas.DataFrame([*rows])
