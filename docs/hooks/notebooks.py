"""Hook of MkDocs: a notebook becomes a page of what it says, runs and shows.

Stands behind `links.py` in the configuration, which reads pages from files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"(?<=\]\()([\w./-]+)\.ipynb(?=[)#])")
# a shadow tree, so that the theme's rules and those of what is shown leave each other alone
OPENED = """<div style="overflow-x: auto"><template shadowrootmode="open"><style>
table { border-collapse: collapse; border: 0; font-size: 0.7rem; margin: 0.6rem 0; }
td, th { border: 0; border-bottom: 1px solid #8888; padding: 0.25rem 0.6rem; text-align: right; }
</style>"""
CLOSED = "</template></div>"
MAGIC = re.compile(r"\A%%(?:sh|bash)\n")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each notebook, under its own name."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        assert file.abs_src_path is not None
        made = page(json.loads(Path(file.abs_src_path).read_text(encoding="utf-8")))
        files.append(
            File.generated(config, f"{file.src_uri.removesuffix('.ipynb')}.md", content=made)
        )
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of any page, in which links to notebooks lead to their pages."""
    return LINK.sub(r"\1.md", markdown)


def page(book: Mapping[str, Any]) -> str:
    """The Markdown of a notebook."""
    parts: list[str] = []
    for cell in book["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        said = MAGIC.sub("", text)
        parts.append(fenced(said, "python" if said == text else "sh"))
        parts += [part for output in cell["outputs"] for part in shown(output)]
    return "\n\n".join(parts) + "\n"


def shown(output: Mapping[str, Any]) -> Iterator[str]:
    """What a cell shows: HTML where there is some, else its text."""
    if output["output_type"] == "stream":
        yield fenced("".join(output["text"]).rstrip(), "text")
        return
    data = output.get("data", {})
    if "text/html" in data:
        # without empty lines, which would end it as a block of HTML
        lines = "".join(data["text/html"]).splitlines()
        yield "\n".join([OPENED, *(line for line in lines if line.strip()), CLOSED])
    elif "text/plain" in data:
        yield fenced("".join(data["text/plain"]), "text")


def fenced(text: str, language: str) -> str:
    """A block of code."""
    fence = "`" * (3 + text.count("```"))
    return f"{fence}{language}\n{text}\n{fence}"
