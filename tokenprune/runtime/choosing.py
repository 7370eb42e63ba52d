"""What a decode stage shows of a prompt in one step: it is asked about every video.

Axes: `b` samples, `t` cached columns of a layout and this step's own, `s` rows of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenprune.guards import masks
from tokenprune.runtime.layout import Unit
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.watched import Watched
from tokenprune.strategy import DecodeStage
from tokenprune.tokens import SequenceView


class Answer(NamedTuple):
    """What a decode stage shows of the rows of one video's sample."""

    unit: Unit
    watched: Watched
    shown: Bool[Tensor, "s"]


class Choice:
    """The answers of a decode stage to the new tokens' `attention`, in one layout."""

    def __init__(
        self, stage: DecodeStage, prompt: PromptState, number: int, attention: Float[Tensor, "b t"]
    ) -> None:
        self._stage, self._prompt, self._number = stage, prompt, number
        self._columns = attention.shape[1]
        self._answers = [self._asked(unit, attention[unit.sample]) for unit in prompt.units]

    @property
    def visible(self) -> Bool[Tensor, "b t"]:
        """Which cached columns are seen."""
        prompt = self._prompt
        if len(prompt.layouts[0].videos) == len(self._answers) == 1 and prompt.whole:
            return self._answers[0].shown.unsqueeze(0)
        visible = prompt.validity(self._number)  # just made, so it may be written to
        filled: set[int] = set()
        for (sample, *_), watched, shown in self._answers:
            rows = watched.rows(self._columns)
            if sample in filled:  # another of its videos hides its own rows
                shown = shown & visible[sample, rows]
            visible[sample, rows] = shown
            filled.add(sample)
        return visible

    def note(self, changed: Sequence[bool]) -> None:
        """Counts what each sample sees, and whether it is what the step before saw."""
        attended = self._prompt.attended
        reports: Any = self._prompt.report.samples  # each of these has a video
        for sample in dict.fromkeys(one.unit.sample for one in self._answers):
            first = sample not in attended
            if first or changed[sample]:
                own = (one for one in self._answers if one.unit.sample == sample)
                attended[sample] = torch.stack([one.watched.seen(one.shown) for one in own]).sum()
            reports[sample].steps.append(attended[sample])
            if not first:
                reports[sample].changes.append(changed[sample])

    def _asked(self, unit: Unit, attention: Float[Tensor, "t"]) -> Answer:
        watched = self._watched(unit)
        return Answer(unit, watched, self._ask(unit, watched.view(attention)))

    def _watched(self, unit: Unit) -> Watched:
        """The rows of a video, made anew where the last ones do not reach."""
        prompt, number = self._prompt, self._number
        watched = prompt.watched.get(unit)
        if watched is None or prompt.gaps or not watched.holds(self._columns):
            layout, padded = prompt.layouts[number], prompt.mask(number)
            real = None if padded is None else padded[unit.sample]
            watched = Watched(unit, prompt.frame(unit, number), layout, self._columns, real)
            prompt.watched[unit] = watched
        return watched

    def _ask(self, unit: Unit, view: SequenceView) -> Bool[Tensor, "s"]:
        """The rows that the stage shows; its state is kept for the next step."""
        states, first = self._prompt.states, unit not in self._prompt.states
        if first:
            states[unit] = masks.start(self._stage, unit.sample)
        shown, states[unit] = masks.shown(self._stage, view, states[unit], first, unit.sample)
        return shown
