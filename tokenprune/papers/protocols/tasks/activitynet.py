"""ActivityNet-QA, judged by a model, with a score for each answer.

Everything is that of the installed lmms-eval. Its figures are the same; a call that failed, which
there is "no" and 0, is an error here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.tasks.lmms.foreign import fresh

theirs = fresh("activitynetqa")
visual = theirs.activitynetqa_doc_to_visual
text = theirs.activitynetqa_doc_to_text
answer = theirs.activitynetqa_doc_to_answer
ask = theirs.activitynetqa_process_results
POINTS = 5  # the most that a judge gives


def judged(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Whether the judge says that an answer is right, and its points of five as a fraction."""
    found = ask(doc, results)["gpt_eval_score"]
    right = "yes" in found["Correctness"].lower()
    return {
        "gpt_eval_accuracy": {**found, "score": float(right)},
        "gpt_eval_score": {**found, "score": found["score"] / POINTS},
    }


def percent(results: Sequence[Mapping[str, Any]]) -> float:
    """Right answers of a hundred."""
    return 100 * sum(result["score"] for result in results) / len(results)


def points(results: Sequence[Mapping[str, Any]]) -> float:
    """Mean points, 0 to 5."""
    return POINTS * sum(result["score"] for result in results) / len(results)
