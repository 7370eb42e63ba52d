"""A benchmark's own figures over answers, without asking a judge again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.results.answer import Answer
from tokenprune.tasks import Task


def figures_of(task: Task, answers: Sequence[Answer]) -> Mapping[str, Any]:
    """`task.metrics` of those that were answered."""
    made = [answer for answer in answers if answer.error is None]
    for answer in made:
        if answer.verdict is not None:
            task.recall(answer.id, answer.prediction, answer.verdict)
    return task.metrics({answer.index: answer.prediction for answer in made})
