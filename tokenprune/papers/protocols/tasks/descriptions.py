"""VideoDetailDescription, judged by a model, with a score for each answer; see `activitynet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.tasks.lmms.foreign import fresh

theirs = fresh("video_detail_description")
visual = theirs.video_detail_description_doc_to_visual
text = theirs.video_detail_description_doc_to_text
answer = theirs.video_detail_description_doc_to_answer
ask = theirs.video_detail_description_process_results_generic
POINTS = 5  # the most that a judge gives


def judged(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The judge's points of five, as a fraction."""
    found = ask(dict(doc), results)["gpt_eval_score"]
    return {"gpt_eval_score": {**found, "score": found["score"] / POINTS}}


def points(results: Sequence[Mapping[str, Any]]) -> float:
    """Mean points, 0 to 5."""
    return POINTS * sum(result["score"] for result in results) / len(results)
