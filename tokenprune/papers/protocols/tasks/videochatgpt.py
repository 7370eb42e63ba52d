"""VideoChatGPT, judged by a model, with a score for each answer; see `activitynet`.

Consistency is judged of two answers at a time, so it has a figure and no score for each answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.tasks.lmms.foreign import fresh
from tokenprune.tasks.lmms.judges import insisted

theirs = fresh("videochatgpt")
visual = theirs.videochatgpt_doc_to_visual
text = theirs.videochatgpt_doc_to_text
text_of_two = theirs.videochatgpt_doc_to_text_consistency
answer = theirs.videochatgpt_doc_to_answer
ask = theirs.videochatgpt_process_results_generic
ask_temporal = theirs.videochatgpt_process_results_temporal
ask_of_two = theirs.get_eval_consistency
read = theirs.parse_score
POINTS = 5  # the most that a judge gives
TOKENS = 64  # of a judge's verdict, as lmms-eval has it


def judged(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Correctness, detail and context, in the judge's points of five as fractions."""
    return _fractions(ask(doc, results))


def judged_temporal(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Understanding of time, likewise."""
    return _fractions(ask_temporal(doc, results))


def _fractions(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {**one, "score": one["score"] / POINTS} for name, one in found.items()}


def points(results: Sequence[Mapping[str, Any]]) -> float:
    """Mean points, 0 to 5."""
    return POINTS * sum(result["score"] for result in results) / len(results)


def collected(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """An answer that waits for the one to the same video's other question."""
    place = 1 if doc["question_1"] != "None" else 2
    own = {"place": place, "question": doc[f"question_{place}"], "said": results[0]}
    about = {"video_name": doc["video_name"], "answer": doc["answer"]}
    return {"gpt_eval_score_consistency": {**about, **own}}


def consistency(results: Sequence[Mapping[str, Any]]) -> float:
    """Mean points, 0 to 5, of videos with both answers. Raises JudgeError."""
    pairs: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for result in results:
        pairs[result["video_name"]][result["place"]] = result
    whole = {name: pair for name, pair in pairs.items() if len(pair) == 2}
    given = [insisted(lambda pair=pair: _of_two(pair), name) for name, pair in whole.items()]
    return sum(given) / len(given)


def _of_two(pair: Mapping[int, Mapping[str, Any]]) -> float:
    first, second = pair[1], pair[2]
    asked = (first["question"], second["question"], first["answer"])
    review, _ = ask_of_two(*asked, first["said"], second["said"], TOKENS)
    return float(read(review))
