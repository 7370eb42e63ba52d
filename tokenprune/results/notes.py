"""What a table of results does not say by itself: what its columns mean, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten

from tokenprune.results.answer import RANDOM
from tokenprune.results.columns import named
from tokenprune.results.differences import moved
from tokenprune.results.summary import Summary, SystemSummary
from tokenprune.results.wording import UNTOLD, percent, points, within

# by column
_READINGS = {
    "empty": "Empty answers",
    "unparsed": "Answers that could not be read as one of the options, and count as wrong",
    "guessed": "Answers that the benchmark's code could not read and replaced by a random option",
}
_RATIOS = ("requested_ratio", "input_ratio", "layer_average_ratio", "decode_ratio")
_REASON = 160  # characters shown of why a sample could not be evaluated


def remarks(summary: Summary) -> Iterator[str]:
    """What a reader has to beware of."""
    yield from _lost(summary)
    yield from _budget(summary)
    for column, meaning in _READINGS.items():
        counts = {one.label: one.measured.get(column) for one in summary.systems.values()}
        told = [f"{count} of {label}" for label, count in counts.items() if count]
        if told:
            yield f"{meaning}: {', '.join(told)}."
    for system in summary.systems.values():
        yield from _merged(system)
        yield from _blind(system, summary.samples - summary.errors)
        yield from _reuse(system, summary.timed)
    yield from _batches(summary)
    yield from _sittings(summary)


def against_random(summary: Summary) -> str | None:
    """What a run is about, in one sentence; None where there is no strategy or no control."""
    subject = summary.subject
    if (paired := subject.to_random) is None:
        return None
    left = subject.measured["layer_average_ratio"]
    tokens = "" if left is None else f" {percent(left)} % of the visual tokens,"
    budget = f"At the same measured budget,{tokens} {subject.label}"
    control, found = summary.systems[RANDOM].label, f"{points(paired.value)} points"
    if paired.sign is None:
        return (
            f"{budget} minus {control} is {found}: the samples give no interval to tell them apart."
        )
    told = {1: "scores higher than", -1: "scores lower than", 0: "cannot be told apart from"}
    interval = f"95 % interval {within(paired.interval)}"
    return f"{budget} {told[paired.sign]} {control}: {found}, {interval}."


def _lost(summary: Summary) -> Iterator[str]:
    """Samples without an answer."""
    if summary.first_error is None:
        return
    reason = shorten(summary.first_error, _REASON, placeholder=" ...")
    yield (
        f"{summary.errors} of {summary.samples} samples could not be evaluated (first: {reason}); "
        "all figures are of the others."
    )


def _budget(summary: Summary) -> Iterator[str]:
    if (keep := summary.setting.keep) is None:
        return
    left = summary.subject.measured["layer_average_ratio"]
    told = "-" if left is None else f"{percent(left)} %"
    yield (
        f"keep={keep:g} was asked for; {told} of the visual tokens were left, mean over LLM layers."
    )


def _merged(system: SystemSummary) -> Iterator[str]:
    """What a count of kept tokens counts."""
    if system.measured["merged"]:
        yield f"{system.label} merges tokens: one that it keeps may stand for several."


def _blind(system: SystemSummary, samples: int) -> Iterator[str]:
    """Answers that were made without the video, in whole or in part."""
    if unseen := system.measured["unseen"]:
        yield (
            f"{system.label} left no visual token in some LLM layer for {unseen} of {samples} "
            "samples: those answers were made without the video, or with what lower layers saw of "
            "it."
        )
    elif system.measured["decode_ratio"] == 0:
        yield f"{system.label} hid all visual tokens from every decoding step."


def _reuse(system: SystemSummary, timed: int) -> Iterator[str]:
    """Answers of another run, taken or not."""
    if system.reused is not None:
        yield (
            f"{system.label} was not run again: its answers are from {system.reused}. All times "
            f"are medians over the same {timed} samples, measured in this run."
        )
    if system.refused is not None:
        yield (
            f"{system.label} was run again, since answers could not be reused of {system.refused}."
        )


def _batches(summary: Summary) -> Iterator[str]:
    """Of batch_size=auto, that what it began with was too much."""
    told = summary.environment.get("batch_size")
    if told is not None and told["settled"] != told["began"]:
        yield (
            f"Batches of {told['began']} samples did not fit into memory: batch_size=auto settled "
            f"on {told['settled']}."
        )


def _sittings(summary: Summary) -> Iterator[str]:
    """That the run was resumed, and what had changed then."""
    if not (earlier := summary.environment.get("earlier")):
        return
    counts = ", ".join(str(sitting["until"]) for sitting in earlier)
    yield f"This run was resumed after {counts} answers: its times are of different sittings."
    if changes := moved(summary.environment, earlier):
        yield f"Its answers are of different environments: {'; '.join(changes)}."


def legend(summary: Summary) -> Iterator[str]:
    """What the columns mean, and what they include."""
    systems = summary.systems.values()
    if (count := len(summary.categories)) > 1:
        yield f"Score: mean over {count} categories."
    scores = [system.score for system in systems if system.score is not None]
    if scores and not any(score.interval for score in scores):
        yield f"No intervals: {UNTOLD}."
    ratios = ", ".join(column.meaning for column in named(*_RATIOS))
    yield f"Visual tokens of the full model = 100 %: {ratios}."
    compared = [system.to_vanilla for system in systems if system.to_vanilla is not None]
    if compared:
        yield "Δ: difference in points, paired by sample."
    if any(paired.mcnemar_p is not None for paired in compared):
        yield "p: McNemar's exact test."
    for system in systems:
        yield from _guided(system)


def _guided(system: SystemSummary) -> Iterator[str]:
    flops, guide = system.measured["flops_ratio"], system.measured["guide_flops_ratio"]
    if flops is not None and guide:
        yield (
            f"FLOPs of {system.label}: {percent(guide)} % for its guide, which sees all tokens, "
            f"{percent(flops - guide)} % without."
        )
