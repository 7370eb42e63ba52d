"""What a table of results does not say by itself: what its columns mean, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

from tokenprune.results.differences import moved
from tokenprune.results.statistics import Paired
from tokenprune.results.summary import ROLES
from tokenprune.results.wording import UNTOLD, points, probability, verdict, within

_READINGS = {
    "empty": "Empty answers",
    "unparsed": "Answers that could not be read as one of the options, and count as wrong",
    "guessed": "Answers that the benchmark's code could not read and replaced by a random option",
}
_REASON = 160  # characters shown of why a sample could not be evaluated


def remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the table does not say by itself."""
    own, random = summary["systems"]["own"], summary["systems"]["random"]
    if (paired := own["against_random"]) is not None:
        yield (
            f"{own['label']} against {random['label']} at the same measured budget: "
            f"{change(paired, apart=' ')} "
            f"points: {verdict(Paired(**paired), random['label'])}."
        )
    if summary["errors"]:
        reason = shorten(summary["first_error"], _REASON, placeholder=" ...")
        yield (
            f"{summary['errors']} of {summary['samples']} samples could not be evaluated (first: "
            f"{reason}); "
            "all figures are of the others."
        )
    if (keep := summary.get("keep")) is not None:
        left = percent(own["tokens"]["layer_average_ratio"])
        yield (
            f"keep={keep:g} was asked for; {left} of the visual tokens were left, mean over LLM "
            "layers."
        )
    for kind, meaning in _READINGS.items():
        if counts := [
            f"{n} of {s['label']}"
            for s in systems_of(summary)
            if (n := s.get("readings", {}).get(kind))
        ]:
            yield f"{meaning}: {', '.join(counts)}."
    for system in systems_of(summary):
        yield from _blind(system, summary["samples"] - summary["errors"])
        if system["reused"] is not None:
            yield (
                f"{system['label']} was not run again: its answers are from {system['reused']}. "
                "All times are medians "
                f"over the same {summary['timed']} samples, measured in this run."
            )
        if system["refused"] is not None:
            yield (
                f"{system['label']} was run again, since answers could not be reused of "
                f"{system['refused']}."
            )
    if earlier := summary["environment"].get("earlier"):
        counts = ", ".join(str(sitting["until"]) for sitting in earlier)
        yield f"This run was resumed after {counts} answers: its times are of different sittings."
        if changes := moved(summary["environment"], earlier):
            yield f"Its answers are of different environments: {'; '.join(changes)}."


def _blind(system: Mapping[str, Any], samples: int) -> Iterator[str]:
    """Answers that were made without the video, in whole or in part."""
    if unseen := system["unseen"]:
        yield (
            f"{system['label']} left no visual token in some LLM layer for {unseen} of {samples} "
            "samples: "
            "those answers were made without the video, or with what lower layers saw of it."
        )
    elif system["tokens"]["decode_ratio"] == 0:
        yield f"{system['label']} hid all visual tokens from every decoding step."


def legend(summary: Mapping[str, Any]) -> str:
    """What the columns mean, and what they include."""
    systems = {system["label"]: system for system in summary["systems"].values()}
    text = ""
    if (count := len(summary["categories"])) > 1:
        text = f"Score: mean over {count} families. "
    if summary["score"] is not None and not any(system["interval"] for system in systems.values()):
        text += f"No intervals: {UNTOLD}. "
    text += (
        "Visual tokens of the full model = 100 %: as asked for, measured at the LLM's input, "
        "averaged over its layers "
        "(random gets the same), and visible to a decoding step."
    )
    if any(system["difference"] is not None for system in systems.values()):
        text += " Δ: difference in points, paired by sample."
    if any(
        (system["difference"] or {}).get("mcnemar_p") is not None for system in systems.values()
    ):
        text += " p: McNemar's exact test."
    for label, system in systems.items():
        if guide := system["guide_flops_ratio"]:
            rest = system["flops_ratio"] - guide
            text += (
                f" FLOPs of {label}: {percent(guide)} for its guide, which sees all tokens, "
                f"{percent(rest)} without."
            )
    return text


def systems_of(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Each system once, the full model first."""
    return list(
        {summary["systems"][role]["label"]: summary["systems"][role] for role in ROLES}.values()
    )


def change(paired: Mapping[str, Any] | None, apart: str = "\n") -> str:
    """A difference in points with its p, and its interval."""
    if paired is None:
        return "-"
    p = "" if paired["mcnemar_p"] is None else f" {probability(paired['mcnemar_p'])}"
    return f"{points(paired['value'])}{p}{apart}{within(paired['interval'])}".rstrip()


def percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f} %"
