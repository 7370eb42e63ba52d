"""The laws of decode stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tokenprune.testing.cases import OfSteps
from tokenprune.testing.equal import copied, same
from tokenprune.testing.law import holds, law
from tokenprune.tokens import SequenceView


def masks(strategy: Any, steps: Sequence[SequenceView]) -> list[Tensor]:
    """What each step of one sample sees."""
    state, seen = strategy.start(), []
    for view in steps:
        mask, state = strategy.attend(view, state)
        seen.append(mask)
    return seen


@law("attend returns a mask with one true or false per row")
def form(strategy: Any, case: OfSteps) -> None:
    for mask, view in zip(masks(strategy, case.steps), case.steps, strict=True):
        found = (mask.dtype, mask.device, mask.shape)
        expected = (torch.bool, view.frame.device, view.frame.shape)
        holds(
            found == expected,
            f"attend returned {mask.dtype}{[*mask.shape]} for {len(view.frame)} rows",
        )


@law("every step sees all text")
def text(strategy: Any, case: OfSteps) -> None:
    for mask, view in zip(masks(strategy, case.steps), case.steps, strict=True):
        holds(mask[~view.visual].all(), "text was hidden")


@law("a later sample sees nothing of an earlier one")
def forgets(strategy: Any, case: OfSteps) -> None:
    first = masks(strategy, case.steps)
    masks(strategy, case.others)
    holds(same(first, masks(strategy, case.steps)), "state leaked into a later sample")


@law("samples whose steps alternate do not see each other's state")
def apart(strategy: Any, case: OfSteps) -> None:
    expected = [masks(strategy, views) for views in (case.steps, case.others)]
    states, results = [strategy.start(), strategy.start()], ([], [])
    for step in range(max(len(case.steps), len(case.others))):
        for sample, views in enumerate((case.steps, case.others)):
            if step < len(views):
                mask, states[sample] = strategy.attend(views[step], states[sample])
                results[sample].append(mask)
    holds(all(map(same, expected, results)), "state leaked between samples")


@law("a state is a value: attend returns the next one and changes none")
def value(strategy: Any, case: OfSteps) -> None:
    state = strategy.start()
    for view in case.steps[:2]:
        mask, following = strategy.attend(view, state)
        holds(same(mask, strategy.attend(view, state)[0]), "a state was changed in place")
        state = following


@law("the view is read only")
def read_only(strategy: Any, case: OfSteps) -> None:
    before = [copied(view) for view in case.steps]
    masks(strategy, case.steps)
    holds(all(map(same, case.steps, before)), "wrote into its input: clone() what you change")


DECODE = (form, text, forgets, apart, value, read_only)
