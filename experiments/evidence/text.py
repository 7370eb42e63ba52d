"""Markdown that can be read as it stands, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence


def listed(sentences: Iterator[str]) -> str:
    """One each."""
    return "\n".join(wrapped(f"* {sentence}", "  ") for sentence in sentences)


def wrapped(text: str, indent: str = "") -> str:
    """Lines of 80 columns, all but the first behind `indent`."""
    return textwrap.fill(text, 80, subsequent_indent=indent, break_on_hyphens=False)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown that can be read as it stands: the first column to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [heading, rule, *rows]
    return "\n".join(f"| {' | '.join(_aligned(line, widths))} |" for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    first, *others = zip(line, widths, strict=True)
    yield first[0].ljust(first[1])
    for cell, width in others:
        yield cell.rjust(width)
