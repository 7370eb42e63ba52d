"""Writes the generated parts of the documentation: `python docs/generate.py` (or `make docs`).

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`; `tests/test_docs.py` fails when one is
stale.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from textwrap import dedent, wrap

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # which read the same imports, to refuse arrows upwards

from imports import PACKAGE, rooms  # noqa: E402


def strategies_part() -> str:
    """The table of strategies."""
    from tokenprune.cli.catalogue import strategies_markdown

    return strategies_markdown()


def columns_part() -> str:
    """The table of the columns of results."""
    from tokenprune.results.columns import columns_markdown

    return columns_markdown()


def models_part() -> str:
    """The table of model families: what each reads, keeps and refuses, and how long its file is."""
    from tokenprune.lookup import FAMILIES

    head = ("family", "what it is", "read from its tower", "positions", "refused", "its file")
    rows = [head, ("---",) * len(head), *(model_row(FAMILIES[name]) for name in FAMILIES.names())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def model_row(family: type) -> tuple[str, ...]:
    """One family; several may share a file."""
    file = Path(inspect.getfile(family))
    text = file.read_text(encoding="utf-8")
    about = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].rstrip(".")
    where = file.relative_to(ROOT).as_posix()
    lines = f"[{file.name}](../{where}), {len(text.splitlines())} lines"
    reads = ", ".join(f"`{kind}`" for kind in family.saliency())
    refused = "; ".join(family.refuses) or "-"
    return (f"`{family.model_type}`", about, f"keys, {reads}", family.positions, refused, lines)


def family_part() -> str:
    """The file of a family that shares all it can."""
    file = PACKAGE / "adapters" / "llava_next_video.py"
    why = "<!-- not run: the file itself, whose family is registered already -->"
    return f"{why}\n```python\n{file.read_text(encoding='utf-8')}```"


def rooms_part() -> str:
    """The drawing of the rooms, and what each of them is."""
    arrows = reduced(rooms())
    drawn = [f"    {room} --> {other}" for room in sorted(arrows) for other in sorted(arrows[room])]
    rows = [f"| `{room}` | {meaning(room)} |" for room in sorted(arrows)]
    graph = ["```mermaid", "graph TD", *drawn, "```"]
    return "\n".join([*graph, "", "| room | what it is |", "| --- | --- |", *rows])


def reduced(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without arrows that a longer way of arrows replaces, so that a drawing can be read."""
    return {
        room: {other for other in used if other not in reached(arrows, used - {other}, room)}
        for room, used in arrows.items()
    }


def reached(arrows: Mapping[str, set[str]], start: set[str], without: str) -> set[str]:
    """All rooms at the end of arrows from `start` that do not lead through `without`."""
    found: set[str] = set()
    waiting = start - {without}
    while waiting:
        found |= waiting
        ahead = set().union(*(arrows[room] for room in waiting))
        waiting = ahead - found - {without}
    return found


def meaning(room: str) -> str:
    """The first paragraph of a room's docstring."""
    folder = PACKAGE / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


# the headings of the page are the names that commands have
SHORT = """    options:
      members: false
      show_root_heading: false
      show_root_toc_entry: false
"""


def described_part() -> str:
    """Of each strategy what its docstring says; the site puts it in place of the names."""
    from tokenprune import registry
    from tokenprune.cli.catalogue import HEADINGS, by_stage

    lines = []
    for stage, found in by_stage().items():
        lines.append(f"## {HEADINGS[stage][0].upper()}{HEADINGS[stage][1:]}\n")
        for entry in found:
            kind = registry.get(entry.name)
            lines.append(f"### {entry.name}\n\n::: {kind.__module__}.{kind.__qualname__}")
            lines.append(SHORT)
    return "\n".join(lines)


def commands_part() -> str:
    """Every command: what its help says, with its keys as a table."""
    from tokenprune.cli.main import COMMANDS

    found = [import_module(f"tokenprune.cli.{module}").COMMAND for module in COMMANDS]
    return "\n".join(f"## {one.name}\n\n{about(one.about or one.brief)}" for one in found)


def about(text: str) -> str:
    """A command's help as Markdown: paragraphs, tables of keys, examples as they are."""
    made = []
    for part in text.strip().split("\n\n"):
        head, _, rest = part.partition("\n")
        if head.startswith("keys"):
            rows = [line.split(None, 1) for line in rest.splitlines()]
            table = [f"| `{key}` | {escaped(meaning)} |" for key, meaning in rows]
            made.append("\n".join(["| key | |", "| --- | --- |", *table]))
        elif head.endswith(":"):
            made.append(f"{head.capitalize()}\n\n```text\n{dedent(rest)}\n```")
        else:
            made.append(escaped(part))
    return "\n\n".join(made) + "\n"


def escaped(text: str) -> str:
    """Text in which Markdown sees no table, no HTML, no link and no emphasis."""
    return re.sub(r"([|<\[\]*_])", r"\\\1", text)


def names_part() -> str:
    """The strategies by stage, in lines that are no wider than the rest of the README."""
    from tokenprune.cli.catalogue import HEADINGS, by_stage

    lines = []
    for stage, found in by_stage().items():
        name, _, meaning = HEADINGS[stage].partition(": ")
        names = ", ".join(f"`{entry.name}`" for entry in found)
        line = f"* **{name}** ({meaning}): {names}"
        lines += wrap(line, 100, subsequent_indent="  ", break_on_hyphens=False)
    lines += ["", "[The table](docs/strategies.md) has their options, defaults and papers."]
    return "\n".join(lines)


def steps_part() -> str:
    """The table of what decoding steps dispatch beyond the stock model's."""
    from tokenprune.bench.steps import steps_markdown

    return steps_markdown()


def shares_part() -> str:
    """What part of a decoding step's bytes is cache, by batch and frames, at a real size."""
    import torch

    from tokenprune.bench.share import shares_markdown

    frames, batches = (8, 16, 32, 64, 128), (1, 4, 16, 64)
    return shares_markdown("shape:llava-onevision-7b", frames, batches, torch.bfloat16)


def overheads_part() -> str:
    """What each strategy dispatches and reads in one prefill."""
    from tokenprune.bench.toy import COMPARABLE, overheads_markdown

    if COMPARABLE:
        return overheads_markdown()
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    return page.partition("<!-- overheads -->\n")[2].partition("\n<!-- /overheads -->")[0]


PARTS = {
    "overheads": overheads_part,
    "names": names_part,
    "strategies": strategies_part,
    "columns": columns_part,
    "models": models_part,
    "family": family_part,
    "rooms": rooms_part,
    "described": described_part,
    "commands": commands_part,
    "shares": shares_part,
    "steps": steps_part,
}
MARKED = re.compile(rf"(<!-- ({'|'.join(PARTS)}) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def pages() -> list[str]:
    """The pages with generated parts."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    marked = [page for page in found if MARKED.search(page.read_text(encoding="utf-8"))]
    return [page.relative_to(ROOT).as_posix() for page in marked]


def refreshed(page: str) -> str:
    """The text of `page` with its generated parts made anew."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return MARKED.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


if __name__ == "__main__":
    for page in pages():
        (ROOT / page).write_text(refreshed(page), encoding="utf-8")
        print(f"wrote {page}")
