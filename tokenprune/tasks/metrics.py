"""How right an answer is, in [0, 1]: pure functions of two strings, by name in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable


def exact_match(prediction: str, answer: str) -> float:
    """1 if both say the same, but for case, surrounding blanks and a final full stop; else 0."""
    return float(_bare(prediction) == _bare(answer))


def event_f1(prediction: str, answer: str) -> float:
    """F1 of the events told, which are the clauses between commas; their order counts.

    Right are the events of the longest common subsequence: told in the reference's order, none of
    them twice. A repeated or invented event costs precision, one left out or told out of order
    costs recall.
    """
    told, happened = _events(prediction), _events(answer)
    return 2 * _common(told, happened) / (len(told) + len(happened)) if told and happened else 0.0


Metric = Callable[[str, str], float]
METRICS: dict[str, Metric] = {"exact_match": exact_match, "event_f1": event_f1}


def _bare(text: str) -> str:
    return text.strip().removesuffix(".").rstrip().lower()


def _events(text: str) -> list[str]:
    clauses = (" ".join(clause.split()) for clause in _bare(text).split(","))
    return [clause for clause in clauses if clause]


def _common(told: list[str], happened: list[str]) -> int:
    """Length of the longest common subsequence, row by row of the usual table."""
    row = [0] * (len(happened) + 1)
    for event in told:
        above, row = row, [0]
        for column, other in enumerate(happened):
            row.append(above[column] + 1 if event == other else max(above[column + 1], row[column]))
    return row[-1]
