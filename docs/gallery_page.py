"""The page of the gallery, from what was measured and the tables of results: the same files give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
        parts.append(f"## {name.capitalize()}\n\n{_sentence(meaning)}.\n")
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

Written by `make gallery`. What each strategy keeps of one clip when {_percent(KEEP)} of the
visual tokens may stay, mean over the layers of the language model.
{_sentence(note("tiny") or "")}

The clip is sample `{found["sample"]}` of the embedded benchmark. The question is
"{found["question"]}", the answer "{found["right"]}", which the full model finds
("{full.answer}"), and frame {frames}, marked with a star, is all that shows it. The sample was
picked because at {_percent(TIGHT)} `random` and VisionZip alone lose the answer and VisionZip
with DyToK finds it, as the README shows. One clip says what a method does, not how good it is:
scores are those of [all methods](results/methods.md) over 150 samples, of DyToK those of
[its study](results/tinyvqa.md) over 450.

**How to read a strip**: all frames in order; kept cells are bright inside a white outline, dropped
ones dark; above each frame stands how many of its {CELLS} cells reached the *last* layer. Vision
stages and condensers drop before the language model, so that all its layers see the same; a prefill
stage drops inside it: layers below see more, and fewer than {_percent(KEEP)} are left at the end.
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
    prefill = _ms(shown(found["gallery"][0]).prefill_ms)
    return f"""## All of them at {_percent(KEEP)}

{table}

*score*: mean over categories in %. *Δ random*: points above `random` at the same budget, paired by
sample; an interval that holds 0 tells nothing apart, and what holds after correction for the number
of comparisons stands on [the page of all methods](results/methods.md). *tokens*: measured on this
clip. *FLOPs*: of the prefill over visual tokens, the guide's included. *own time*: what the
strategy itself takes before the first token, the fastest of {REPEATS} answers on one thread of a
CPU ({found["machine"]}), where the full model's prefill takes {prefill}; where a guide reads the prompt
first, its pass stands behind the plus. Times at real size: [Efficiency](results/efficiency.md).
*here*: the answer to this clip's question.
"""


def _row(found: Mapping[str, Any], entry: Entry, one: Shown) -> tuple[str, ...]:
    cell = at_budget(cells_of(entry.name))
    probe = f" + {_ms(one.probe_ms)}" if one.probe_ms else ""
    link = f"[{one.spec}](#{entry.name})"
    own = f"{_ms(one.strategy_ms)}{probe}"
    answer = f"{one.answer} {'✓' if one.answer.strip() == found['right'] else '✗'}"
    if cell is None:
        return (link, "-", "-", _percent(one.average), "-", own, answer)
    flops = _percent(float(cell["flops_ratio"]))
    score, against = (_whole(text) for text in (_score(cell), _against(cell)))
    return (link, score, against, _percent(one.average), flops, own, answer)


def _section(found: Mapping[str, Any], entry: Entry, seen: Mapping[str, Shown]) -> str:
    one = seen[spec_of(entry.name)]
    paper = f"[{entry.paper}]({entry.link})" if entry.link else entry.paper
    name = entry.name
    return f"""### {name}

{paper}

![{found["sheets"][name]}](images/gallery/{name}.png)

{_told(one)}

![{found["curves"][name]}](images/gallery/{name}-curve.png)

{_worth(entry)}
"""


def _told(one: Shown) -> str:
    """What was measured on the clip, in words."""
    spec, first, last = one.spec, one.layers[0], one.layers[-1]
    parts = [f"`{spec}`: {first} of {one.full} tokens enter the language model"]
    if last != first:
        stairs = ", ".join(map(str, one.layers))
        parts.append(f"its {len(one.layers)} layers see {stairs}")
    parts.append(f"{_percent(one.average)} mean over layers")
    if one.decode is not None and abs(one.decode - last / one.full) > 0.0005:
        parts.append(f"a generated token sees {_percent(one.decode)}")
    merged = " A kept cell may stand for several merged tokens." if one.merged else ""
    return f"{'; '.join(parts)}.{merged}"


def _worth(entry: Entry) -> str:
    """What the table of results says at the gallery's budget."""
    cell = at_budget(cells_of(entry.name))
    spec, table = spec_of(entry.name), table_of(entry.name)
    where = f"[{'all methods' if table == 'methods' else 'the study'}](results/{table}.md)"
    if cell is None:
        return f"`{spec}` has no score at {_percent(KEEP)} in {where}."
    control = at_budget(cells(table, CONTROL))
    assert control is not None
    kept = float(cell["layer_average_ratio"])
    off = f" (measured {_percent(kept)})" * (abs(kept - KEEP) > _OFF)
    budget = f"{_percent(KEEP)}{off}"
    text = f"Over {cell['samples']} samples of {where}, at {budget}: {_score(cell)} %"
    if entry.name == CONTROL:
        return f"{text}. It is what all others are compared with."
    return f"{text}, `random` {_score(control)} %: {_points(cell, 'to_random')} points."


def _score(row: Row) -> str:
    value, low, high = (100 * float(row[key]) for key in ("score", "score_low", "score_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _points(row: Row, name: str) -> str:
    value, low, high = (100 * float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _against(row: Row) -> str:
    return _points(row, "to_random") if row["to_random"] else "-"


def _whole(text: str) -> str:
    """An interval in one line of a narrow column."""
    return text.replace(", ", ",\u00a0")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
