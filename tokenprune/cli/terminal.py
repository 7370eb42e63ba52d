"""Output where few characters are known: other characters instead of an error."""

from __future__ import annotations

import codecs
import sys

_SIGNS = {
    "Δ": "d",
    "█": "#",
    "░": ".",
    "━": "-",
    "±": "~",
    "×": "x",
    "•": "*",
    "…": ".",
    "→": ">",
    "≥": ">",
    "≤": "<",
    "–": "-",
    "—": "-",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "\N{MINUS SIGN}": "-",
}  # fmt: skip  one for one, so that columns stay where they are


def adapt() -> None:
    """Standard output and error never fail over a character again, whatever their encoding."""
    codecs.register_error("tokenprune", _instead)
    for stream in (sys.stdout, sys.stderr):
        # what is not a terminal or a file of this process, such as a test's, has its own ways
        if (change := getattr(stream, "reconfigure", None)) and not _unicode(stream.encoding):
            change(errors="tokenprune")


def _unicode(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").replace("_", "").startswith("utf")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(
        _SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]
    ), error.end
