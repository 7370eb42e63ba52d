"""A study's figures as a table that programs read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from tokenprune.results.table import six_digits


def csv_of(lines: Iterable[Mapping[str, Any]]) -> str:
    """The lines under the names of all of them; fractions of six digits, nothing for None."""
    rows = list(lines)
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    out = csv.DictWriter(text, list(names), lineterminator="\n")
    out.writeheader()
    for row in rows:
        out.writerow({name: six_digits(value) for name, value in row.items()})
    return text.getvalue()
