"""Answers of another run: a few samples are asked again, for their times and to see them confirmed.

Times are never reused, and where the model answers otherwise now, no answer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tokenprune.results.answer import Answer

_TIMED = 8  # samples whose times are measured anew


@dataclass(frozen=True)
class Known:
    """Answers by sample, and the folder of the run that made them; none by default."""

    folder: str | None = None
    answers: Mapping[int, Answer] = field(default_factory=dict)
    refused: str | None = None  # why they were not taken

    def asked_again(self, pending: Sequence[int], batch_size: int) -> list[int]:
        """Those of the `pending` samples to ask first: all, where nothing is known.

        Else some, spread evenly over all known ones: whole batches, but at most half of them.
        """
        if not self.answers:
            return list(pending)
        indices = sorted(self.answers)
        wanted = -(-_TIMED // batch_size) * batch_size
        number = min(wanted, -(-len(indices) // 2))
        spread = [indices[place * len(indices) // number] for place in range(number)]
        missing = set(pending)
        return [index for index in spread if index in missing]

    def confirmed(self, made: Mapping[int, Answer]) -> Known:
        """Itself, or nothing and why, where a sample in `made` gets another answer than the known
        one.
        """
        for answer in made.values():
            known = self.answers.get(answer.index)
            if known is None or (answer.error is None and answer.prediction == known.prediction):
                continue
            reason = answer.error or "it gets another answer now"
            return Known(refused=f"{self.folder}: sample {answer.id}: {reason}")
        return self
