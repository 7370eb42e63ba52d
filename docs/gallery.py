"""Writes the gallery of strategies and the pictures at the head of the README:
`python docs/gallery.py` (or `make gallery`), a minute on two cores.

Asks the embedded model about one clip under every strategy, and takes scores and operations from
the tables in `docs/results`. With `page` as an argument it asks nothing, and writes page and plots
anew from what was measured before; with names of strategies it asks under these alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "docs"))  # also where a test loads this file

import gallery_measured as asked  # noqa: E402
from gallery_curves import curve_of, first_curve, has_scores  # noqa: E402
from gallery_page import FILE, page, shown  # noqa: E402

from tokenprune.pictures.drawing import Drawing  # noqa: E402
from tokenprune.pictures.subject import Subject  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DPI = 170
_COLOURS = 256  # of a palette: a quarter of the bytes, and nobody sees it


def sheets(found: dict[str, Any], loose: Subject, names: Collection[str]) -> None:
    """The pictures of frames of some strategies; their words go into `found`."""
    by_spec = {part["spec"]: shown(part) for part in found["gallery"]}
    for name, spec in asked.specs().items():
        if name not in names:
            continue
        alone = [by_spec[asked.HOST]] * (spec != name)  # what an allocator changes
        drawing = asked.sheet([*alone, by_spec[spec]], loose)
        save(drawing, IMAGES / "gallery" / f"{name}.png")
        found["sheets"][name] = drawing.alt


def first(found: dict[str, Any], tight: Subject) -> None:
    """The README's picture of frames."""
    full, *others = map(shown, found["first"])
    title = (
        f"“{found['question']}” With all {full.full} tokens the model says “{full.answer}”; "
        f"{len(found['evidence'])} of {len(full.slots)} frames shows it (★)."
    )
    foot = f"{asked.NOTE} One question, picked because the answers differ: the plot has 450."
    drawing = asked.sheet(others, tight, title, foot)
    save(drawing, IMAGES / "first.png")
    found["alt"] = {"first": drawing.alt}  # that of the scores follows


def save(drawing: Drawing, file: Path) -> None:
    """As a PNG of few colours."""
    from PIL import Image

    drawing.save(file, DPI)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE)
    small.save(file, optimize=True)


def plots(found: dict[str, Any]) -> None:
    """The pictures of scores."""
    drawing = first_curve()
    save(drawing, IMAGES / "curve.png")
    found["alt"]["curve"] = drawing.alt
    found["curves"] = {}
    for name in asked.specs():
        if not has_scores(name):
            continue
        drawing = curve_of(name)
        save(drawing, IMAGES / "gallery" / f"{name}-curve.png")
        found["curves"][name] = drawing.alt


def main(words: list[str]) -> None:
    """All of it, with `page` what needs no model, with names what these need."""
    if unknown := {*words} - {"page", *asked.specs()}:
        raise SystemExit(f"docs/gallery.py: error: no strategy is called {min(unknown)!r}")
    if words:
        found = json.loads(FILE.read_text(encoding="utf-8"))
        if names := [word for word in words if word != "page"]:
            some(found, names)
    else:
        loose, tight = asked.subject(asked.KEEP), asked.subject(asked.TIGHT)
        found = {**asked.measured(loose, tight), "sheets": {}}
        check_first(found)
        sheets(found, loose, asked.specs())
        first(found, tight)
    plots(found)
    FILE.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    (ROOT / "docs" / "gallery.md").write_text(page(found), encoding="utf-8")
    print(f"wrote docs/gallery.md, {FILE.relative_to(ROOT)} and the pictures beside it")


def some(found: dict[str, Any], names: list[str]) -> None:
    """Measures these anew; all others stay as they were."""
    loose = asked.subject(asked.KEEP)
    known = {part["spec"]: part for part in found["gallery"]}
    known |= {part["spec"]: part for part in asked.parts(loose, names)}
    found["gallery"] = [known[spec] for spec in ("none", *asked.specs().values())]
    sheets(found, loose, names)
    found["sheets"] = {name: found["sheets"][name] for name in asked.specs()}


def check_first(found: dict[str, Any]) -> None:
    """SystemExit where the first picture would not show what its words say."""
    right = [part["answer"].strip() == found["right"] for part in found["first"]]
    if right != [True, *[False] * (len(asked.FIRST) - 1), True]:
        raise SystemExit(f"{found['sample']} does not tell {', '.join(asked.FIRST)} apart any more")


if __name__ == "__main__":
    main(sys.argv[1:])
