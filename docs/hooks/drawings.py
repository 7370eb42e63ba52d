"""Hook of MkDocs: a Mermaid drawing of arrows becomes a table.

The theme would fetch the program that draws them from the network, and this site's pages ask the
network for nothing.
"""

from __future__ import annotations

import re
from typing import Any

DRAWING = re.compile(r"^```mermaid\ngraph TD\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ARROW = re.compile(r"^\s*(\w+) --> (\w+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text, with a row for each name that arrows start from."""
    return DRAWING.sub(lambda drawing: table(ARROW.findall(drawing[1])), markdown)


def table(arrows: list[tuple[str, str]]) -> str:
    """Where the arrows of each name lead, in the order in which they were drawn."""
    ends: dict[str, list[str]] = {}
    for start, end in arrows:
        ends.setdefault(start, []).append(f"`{end}`")
    rows = [f"| `{start}` | {', '.join(found)} |" for start, found in ends.items()]
    return "\n".join(["| room | rests on |", "| --- | --- |", *rows])
