"""What a run says, in sentences: the first thing in the terminal and on its page."""

from __future__ import annotations

from collections.abc import Iterator

from tokenprune.results.notes import against_random
from tokenprune.results.statistics import Paired
from tokenprune.results.summary import Summary
from tokenprune.results.wording import percent, within


def headline(summary: Summary) -> Iterator[str]:
    """What was kept, in the tower too, and what it is worth beside the full model and chance."""
    yield _first(summary)
    worked = summary.subject.measured.get("tower_ratio")  # older runs do not say
    if worked is not None:
        yield f"Its vision tower worked on {percent(worked)} % of its rows, mean over layers."
    if (told := against_random(summary)) is not None:
        yield told


def _first(summary: Summary) -> str:
    subject = summary.subject
    left = subject.measured.get("layer_average_ratio")
    kept = "" if left is None else f" keeps {percent(left)} % of the visual tokens"
    if subject.score is None:
        return f"{subject.label}{kept or ' answered nothing that could be measured'}."
    joined = f"{kept} and" if kept else ""
    own = f"{subject.label}{joined} scores {percent(subject.score.value)} %"
    if (paired := subject.to_vanilla) is None:
        return f"{own} on {summary.samples} samples."
    return f"{own}, {_beside(paired)}."


def _beside(paired: Paired) -> str:
    """How far from the full model, and whether that can be claimed."""
    found = round(100 * paired.value, 1)
    distance = f"{abs(found):.1f} points {'above' if found > 0 else 'below'} the full model"
    if not found:
        distance = "as much as the full model"
    if paired.sign is None:
        return f"{distance}; the samples give no interval"
    interval = f"95 % interval {within(paired.interval)}"
    return f"{distance} ({interval}{'' if paired.sign else ', which does not tell them apart'})"
