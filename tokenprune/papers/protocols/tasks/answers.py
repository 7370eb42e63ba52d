"""How lmms-eval read answers of multiple choice when the papers were written: what 0.7.3 changed.

Prompts and videos are those of the installed lmms-eval, named in the YAML files beside this one.
Each answer is read in both ways, and `read_otherwise` counts those that the two read differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# in lmms-eval before 0.4 a comma is missing after the fifth of them and after the sixth, so that
# four of these prefixes are never taken away
PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
MLVU_TEST = (
    "anomaly_reco",
    "count",
    "ego",
    "needleQA",
    "order",
    "plotQA",
    "sportsQA",
    "topic_reasoning",
    "tutorialQA",
)
DURATIONS = ("short", "medium", "long")


def first_letter(text: str, letters: str = "ABCD") -> str:
    """The first of the letters in an answer, wherever it stands; empty where there is none.

    A word that begins with one counts, too: "All of them" is A.
    """
    text = text.strip()
    for prefix in PREFIXES:
        text = text.replace(prefix, "")
    found = re.search(f"[{letters}]", text)
    return found[0] if found else ""


def before_bracket(text: str) -> str:
    """The character before the first closing bracket, else the whole text: MLVU's prompt ends with
    an open one.
    """
    text = text.strip()
    place = text.find(")")
    return text if place < 0 else text[max(0, place - 1) : place]


def ranked(text: str) -> str:
    """What lmms-eval 0.7.3 reads: the last match of the format it trusts most."""
    from lmms_eval.tasks._task_utils.mcq_extract import (  # pyright: ignore[reportMissingImports]
        extract_mcq_answer,
    )

    return extract_mcq_answer(text, choices=["A", "B", "C", "D"])


def videomme(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Of VideoMME, with and without subtitles: over all, and of videos of one length."""
    read, now = first_letter(results[0]), ranked(results[0])
    found = {
        "question_id": doc["question_id"],
        "videoID": doc["videoID"],
        "duration": doc["duration"],
        "pred_answer": read,
        "answer": doc["answer"],
        "score": float(read == doc["answer"]),
    }
    name = "videomme_perception_score"
    told = {name: found, f"{name}_{doc['duration']}": found}
    return {**told, "read_otherwise": float(read != now)}


def mlvu(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Of MLVU's test, as lmms-eval 0.3.0 read it. Its answers have options A to F."""
    read, now = before_bracket(results[0]), ranked(results[0])
    unread = re.fullmatch("[A-F]", read) is None
    found = {
        "task_type": doc["task_type"],
        "pred_answer": read,
        "answer": doc["answer"],
        "score": float(read == doc["answer"]),
        "unread": unread,
    }
    otherwise = now != "" if unread else now != read
    return {"mlvu_percetion_score": found, "read_otherwise": float(otherwise)}


def percent(results: Sequence[Mapping[str, Any]]) -> float:
    """Right answers of a hundred."""
    return 100 * sum(result["score"] for result in results) / len(results)


def percent_by_type(results: Sequence[Mapping[str, Any]]) -> float:
    """Mean over MLVU's nine types of question of their per cent; one without answers counts 0."""
    by_type = {kind: [r for r in results if r["task_type"] == kind] for kind in MLVU_TEST}
    return sum(percent(own) for own in by_type.values() if own) / len(MLVU_TEST)


def total(results: Sequence[float]) -> float:
    """How many of the answers are read otherwise by lmms-eval 0.7.3."""
    return float(sum(results))
