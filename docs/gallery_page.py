"""The page of the gallery, from what was measured and the tables of results: the same files give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gallery_inside as inside
import gallery_words as words
from gallery_curves import CONTROL, Row, cells, cells_of, table_of
from gallery_measured import CELLS, KEEP, REPEATS, ROOT, TIGHT, Shown, spec_of

from tokenprune.checkpoints import note
from tokenprune.cli.catalogue import HEADINGS, Entry, by_stage

FILE = ROOT / "docs" / "images" / "gallery" / "measured.json"
_OFF = 0.005  # a budget that was missed by more is said
_COLUMNS = (
    "strategy",
    "score [95 %]",
    "Δ random [95 %]",
    "tokens, layer avg",
    "FLOPs prefill",
    "own time",
    "here",
)


def page(found: Mapping[str, Any]) -> str:
    """docs/gallery.md."""
    full, *others = (shown(part) for part in found["gallery"])
    seen = {one.spec: one for one in others}
    parts = [_head(found, full), _table(found, seen)]
    for stage, entries in by_stage().items():
        name, _, meaning = HEADINGS[stage].partition(": ")
        parts.append(f"## {name.capitalize()}\n\n{words.sentence(meaning)}.\n")
        parts += [_section(found, entry, seen) for entry in entries]
    return "\n".join(parts)


def shown(part: Mapping[str, Any]) -> Shown:
    """As the file has it."""
    return Shown(**part)


def at_budget(some: Iterable[Row]) -> Row | None:
    """The cell at the gallery's budget."""
    return next((row for row in some if abs(float(row["budget"]) - KEEP) < 1e-6), None)


def _head(found: Mapping[str, Any], full: Shown) -> str:
    frames = " and ".join(str(frame + 1) for frame in found["evidence"])
    return f"""# Gallery of strategies

Written by `make gallery`. What each strategy keeps of one clip when {words.percent(KEEP)} of the
visual tokens may stay, mean over the layers of the language model.
{words.sentence(note("tiny") or "")}

The clip is sample `{found["sample"]}` of the embedded benchmark. The question is
"{found["question"]}", the answer "{found["right"]}", which the full model finds
("{full.answer}"), and frame {frames}, marked with a star, is all that shows it. The sample was
picked because at {words.percent(TIGHT)} `random` and VisionZip alone lose the answer and VisionZip
with DyToK finds it, as the README shows. One clip says what a method does, not how good it is:
scores are those of [all methods](results/methods.md) over 150 samples, of DyToK those of
[its study](results/tinyvqa.md) over 450, of stages inside the tower [theirs](results/tower.md) over
225.

**How to read a strip**: all frames in order; kept cells are bright inside a white outline, dropped
ones dark; above each frame stands how many of its {CELLS} cells reached the *last* layer. Vision
stages and condensers drop before the language model, so that all its layers see the same; a prefill
stage drops inside it: layers below see more, and fewer than {words.percent(KEEP)} are left at the
end. A stage inside the vision tower keeps all tokens, and has a setting in place of a budget: its
strip shows which patches went through the tower, or each row that is left behind its last layer at
the first of its patches.
In the plots, bars and band are 95 % intervals, and points of one budget are set side by side.

For a clip of your own:

<!-- not run: the video is yours -->
```console
$ tokenprune run strategy=visionzip+dytok keep=0.25 video=clip.mp4 question="What moves?" out=mine
$ tokenprune draw mine sample=0
```
"""


def _table(found: Mapping[str, Any], seen: Mapping[str, Shown]) -> str:
    """All strategies, a row each."""
    lines = [_COLUMNS, ("--", "--:", "--:", "--:", "--:", "--:", "--")]
    lines += [
        _row(found, entry, seen[spec_of(entry.name)])
        for entries in by_stage().values()
        for entry in entries
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    prefill = words.ms(shown(found["gallery"][0]).prefill_ms)
    return f"""## All of them at {words.percent(KEEP)}

{table}

*score*: mean over categories in %. *Δ random*: points above `random` at the same budget, paired by
sample; an interval that holds 0 tells nothing apart, and what holds after correction for the number
of comparisons stands on [the page of all methods](results/methods.md). *tokens*: measured on this
clip. *FLOPs*: of the prefill over visual tokens, the guide's included. *own time*: what the
strategy itself takes before the first token, the fastest of {REPEATS} answers on one thread of a
CPU ({found["machine"]}), where the full model's prefill takes {prefill}; where a guide reads the
prompt first, its pass stands behind the plus; a stage inside the tower works in the tower's time,
and what it saves of that stands in its section. Times at real size:
[Efficiency](results/efficiency.md). *here*: the answer to this clip's question.
"""


def _row(found: Mapping[str, Any], entry: Entry, one: Shown) -> tuple[str, ...]:
    cell = at_budget(cells_of(entry.name))
    probe = f" + {words.ms(one.probe_ms)}" if one.probe_ms else ""
    link = f"[{one.spec}](#{entry.name})"
    own = f"{words.ms(one.strategy_ms)}{probe}"
    answer = f"{one.answer} {'✓' if one.answer.strip() == found['right'] else '✗'}"
    if one.work is not None:  # no token is dropped
        score = words.whole(words.score(inside.cell(entry.name)))
        return (link, score, "-", words.percent(one.average), "100 %", "-", answer)
    if cell is None:
        return (link, "-", "-", words.percent(one.average), "-", own, answer)
    flops = words.percent(float(cell["flops_ratio"]))
    score, against = (words.whole(text) for text in (words.score(cell), words.against(cell)))
    return (link, score, against, words.percent(one.average), flops, own, answer)


def _section(found: Mapping[str, Any], entry: Entry, seen: Mapping[str, Shown]) -> str:
    one = seen[spec_of(entry.name)]
    paper = f"[{entry.paper}]({entry.link})" if entry.link else entry.paper
    name = entry.name
    return f"""### {name}

{paper}

![{found["sheets"][name]}](images/gallery/{name}.png)

{_told(one)}
{_curve(found, name)}
{_worth(entry)}
"""


def _curve(found: Mapping[str, Any], name: str) -> str:
    """The plot, where something was measured."""
    alt = found["curves"].get(name)
    return f"\n![{alt}](images/gallery/{name}-curve.png)\n" if alt else ""


def _told(one: Shown) -> str:
    """What was measured on the clip, in words."""
    if one.work is not None:
        return _told_inside(one)
    spec, first, last = one.spec, one.layers[0], one.layers[-1]
    parts = [f"`{spec}`: {first} of {one.full} tokens enter the language model"]
    if last != first:
        stairs = ", ".join(map(str, one.layers))
        parts.append(f"its {len(one.layers)} layers see {stairs}")
    parts.append(f"{words.percent(one.average)} mean over layers")
    if one.decode is not None and abs(one.decode - last / one.full) > 0.0005:
        parts.append(f"a generated token sees {words.percent(one.decode)}")
    merged = " A kept cell may stand for several merged tokens." if one.merged else ""
    return f"{'; '.join(parts)}.{merged}"


def _told_inside(one: Shown) -> str:
    kept = one.kept
    return (
        f"`{kept.label}`: {sum(kept.budgets)} of {kept.full} {kept.unit}, "
        f"{words.percent(one.work or 0.0)} of its multiply-adds; the language model sees all "
        f"{one.full} tokens."
    )


def _worth_inside(name: str) -> str:
    own, control = inside.cell(name), inside.cell(name, control=True)
    work = words.percent(float(own["tower_flops"]))
    return (
        f"In [its study](results/tower.md), at {work} of the tower's multiply-adds on average: "
        f"{words.score(own)} %, the same work at random places {words.score(control)} %."
    )


def _worth(entry: Entry) -> str:
    """What the table of results says at the gallery's budget."""
    if inside.inside(entry.name):
        return _worth_inside(entry.name)
    cell = at_budget(cells_of(entry.name))
    spec, table = spec_of(entry.name), table_of(entry.name)
    where = f"[{'all methods' if table == 'methods' else 'the study'}](results/{table}.md)"
    if cell is None:
        return f"`{spec}` has no score at {words.percent(KEEP)} in {where}."
    control = at_budget(cells(table, CONTROL))
    assert control is not None
    kept = float(cell["layer_average_ratio"])
    off = f" (measured {words.percent(kept)})" * (abs(kept - KEEP) > _OFF)
    budget = f"{words.percent(KEEP)}{off}"
    text = f"Over {cell['samples']} samples of {where}, at {budget}: {words.score(cell)} %"
    if entry.name == CONTROL:
        return f"{text}. It is what all others are compared with."
    return f"{text}, `random` {words.score(control)} %: {words.points(cell, 'to_random')} points."
