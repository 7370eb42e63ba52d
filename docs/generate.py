"""Writes the generated parts of the documentation: `python docs/generate.py` (or `make docs`).

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`; `tests/test_docs.py` fails when one is
stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenprune.cli.catalogue import strategies_markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/strategies.md")


def refreshed(page: str) -> str:
    """The text of `page` with its generated parts made anew."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = strategies_markdown()
    return re.sub(
        r"(<!-- strategies -->\n).*?(<!-- /strategies -->)",
        lambda m: f"{m[1]}{table}\n{m[2]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(refreshed(page), encoding="utf-8")
        print(f"wrote {page}")
