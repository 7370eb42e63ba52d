"""The full model's answers, taken from a run beside this one where nothing they depend on differs.

What a batch holds is one of these things, since half precision rounds otherwise in another batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.evaluation.fitting import BatchSize, halves
from tokenprune.evaluation.known import Known
from tokenprune.evaluation.logs import KEY
from tokenprune.evaluation.plan import Plan
from tokenprune.loading.variant import CHOICES
from tokenprune.results.answer import VANILLA
from tokenprune.results.journal import Journal
from tokenprune.results.reuse import content_key, find, weights

_CHOSEN = (*CHOICES, "images")
# of an environment: what the full model's answers may depend on
_MACHINE = ("versions", "platform", "device", "device_name", "dtype", "threads")
# of trainer.*: processes, each of which has its own batches
_SEVERAL = ("devices", "num_nodes", "strategy")


@dataclass(frozen=True)
class Vanilla:
    """Digests of all that the full model's answers depend on, by the number of samples in a
    batch.
    """

    keys: Mapping[int, str]

    def known(self, plan: Plan, folder: Path, journal: Journal) -> tuple[dict[str, Known], int]:
        """Answers of a run beside this one, unless the full model has answered already, and the
        number in a batch to begin with: theirs, where they are taken.
        """
        first = next(iter(self.keys))
        if not plan.config.reuse or plan.config.video is not None:
            return {}, first
        if len(journal.read(VANILLA)) >= plan.size:
            return {}, first
        found = find(folder, self.keys.values(), plan.size)
        if found is None:
            return {}, first
        key, origin, answers = found
        size = next(size for size, own in self.keys.items() if own == key)
        return {VANILLA: Known(origin, {answer.index: answer for answer in answers})}, size

    def made(self, plan: Plan, batch: BatchSize, resumed: bool) -> str | None:
        """The digest for runs to come; None where a batch's number was not the same all along, or
        cannot be told.
        """
        if not batch.shrinks:
            return self.keys[batch.now]
        told = len(batch.used) == 1 and not resumed and not set(_SEVERAL) & set(plan.config.trainer)
        return self.keys[batch.now] if told else None


def vanilla(
    plan: Plan, samples: Mapping[str, Any], place: Mapping[str, Any], batch: BatchSize
) -> Vanilla:
    """`samples` is the task's fingerprint, `place` the environment of `record.environment`."""
    # what logs results changes none
    trainer = {name: value for name, value in plan.config.trainer.items() if name != KEY}
    loop = {
        "max_new_tokens": plan.max_new_tokens,
        "trainer": trainer,
        **{name: getattr(plan.config, name) for name in _CHOSEN},
    }
    known = {
        "task": samples,
        "machine": {name: place[name] for name in _MACHINE},
        "code": plan.around.digests(),
    }
    files = weights(plan.config.model, plan.config.template)
    sizes = halves(batch.now) if batch.shrinks else [batch.now]
    return Vanilla(
        {size: content_key(files, loop={**loop, "batch_size": size}, **known) for size in sizes}
    )
