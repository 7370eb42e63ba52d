"""Which samples a system is asked: all, or a few where its answers are known from another run.

The few are asked for their times, which are never reused, and to see that the model still answers
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.results.system import System

_TIMED = 8  # samples whose times are measured anew


def rounds(
    system: System, pending: Sequence[int], journal: Journal, batch_size: int
) -> Iterator[list[int]]:
    """The samples to evaluate: all that are pending or, where answers are known, a few of them.

    Where one of the few gets another answer than the known one, none of those is taken, the system
    says why, and the others follow in a second round. Several processes decide the same.
    """
    few: list[int] = []
    if system.known:
        few = [
            index for index in _spread(sorted(system.known), batch_size) if index in set(pending)
        ]
        yield few
        made = journal.read(system.name)
        differ = [
            answer for answer in made.values() if _another(answer, system.known.get(answer.index))
        ]
        if not differ:
            return
        reason = differ[0].error or "it gets another answer now"
        system.refused = f"{system.reused}: sample {differ[0].id}: {reason}"
        system.reused, system.known = None, {}
    yield [index for index in pending if index not in few]


def _spread(indices: Sequence[int], batch_size: int) -> list[int]:
    """Some of `indices`, evenly: whole batches, but not more than half of them."""
    wanted = -(-_TIMED // batch_size) * batch_size
    number = min(wanted, -(-len(indices) // 2))
    return [indices[place * len(indices) // number] for place in range(number)]


def _another(made: Answer, known: Answer | None) -> bool:
    return known is not None and (made.error is not None or made.prediction != known.prediction)
