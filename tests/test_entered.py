"""What a view knows of rows that are gone, and of other videos of its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from families import FAMILIES, Ask
from test_families import generated
from torch import Tensor

from tokenprune import attach
from tokenprune.sequence import BESIDE, OTHER, TEXT, SequenceView
from tokenprune.strategy import Pipeline, PrefillStage


def test_the_question_stands_behind_the_last_frame_though_that_is_gone() -> None:
    """Between frames are timestamps, behind the video another one, and a newline."""
    entered = torch.tensor([TEXT, 0, TEXT, 1, TEXT, TEXT, OTHER, OTHER, TEXT, TEXT])
    position = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9])
    frame = torch.tensor([TEXT, 0, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT])
    slot = torch.tensor([0, 0, 0, BESIDE, 0, 0, 0, 0])
    view = SequenceView(frame, position, frames=2, slot=slot, entered=entered)
    assert view.position[view.behind].tolist() == [5, 8, 9]
    # all that is known where it is left out: what stands behind the rows that are left
    view = SequenceView(frame, position, frames=2, slot=slot)
    assert view.position[view.behind].tolist() == [2, 5, 6, 8, 9]


def test_left_out_all_that_is_no_text_is_of_the_video() -> None:
    view = SequenceView(torch.tensor([TEXT, 1, TEXT]), torch.tensor([0, 3, 5]))
    assert view.entered.tolist() == [TEXT, 0, 0, 0, 0, TEXT]


VIEWS: list[tuple[SequenceView, Tensor]] = []


@dataclass(frozen=True)
class LastGoes(PrefillStage):
    """Drops the last frame before its first layer."""

    def layers(self, depth: int) -> tuple[int, ...]:
        return (1, 2)

    def quota(self, view: SequenceView) -> Tensor:
        VIEWS.append((view, view.behind))
        return view.counts * (torch.arange(view.frames) < view.frames - 1)

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        return ~view.visual | (view.frame < view.frames - 1)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "llava_onevision"])
def test_views_of_two_videos(kind: str) -> None:
    family = FAMILIES[kind]
    prompt = family.prompt([Ask(3, family.clips[:2], 4), Ask(1, family.clips[:1], 2)])
    VIEWS.clear()
    with attach(family.model(), Pipeline((LastGoes(),))):
        generated(family.model(), prompt, max_new_tokens=1)
    assert len(VIEWS) == 6
    for (first, asked), (second, still) in zip(VIEWS[:3], VIEWS[3:], strict=True):
        for view in (first, second):
            visual = view.visual
            assert torch.equal(view.entered[view.position[visual]], view.frame[visual])
            assert int((view.entered >= 0).sum()) == view.full
            assert len(view.entered) == len(view.inputs)
        assert bool((second.counts[:-1] == first.counts[:-1]).all())
        assert int(second.counts[-1]) == 0
        assert torch.equal(second.entered, first.entered)
        assert first.position[asked].tolist() == second.position[still].tolist()
    one, two, single = (view for view, _ in VIEWS[:3])
    others: Any = [int((view.entered == OTHER).sum()) for view in (one, two, single)]
    assert others == [two.full, one.full, 0]
    assert not bool((one.entered[one.position[VIEWS[0][1]]] == OTHER).any())
    assert int(VIEWS[0][1].sum()) > int(VIEWS[1][1].sum()) > 0


def test_what_is_made_later_is_made_once_and_only_when_asked_for() -> None:
    made: list[str] = []

    def words() -> Tensor:
        made.append("words")
        return torch.tensor([3])

    frame = torch.tensor([TEXT, 0, 0, TEXT])
    view = SequenceView(frame, torch.arange(4), later={"words": words}, below=(7, 5))
    assert view.history == (7, 5)
    assert view.full == 7
    assert not made
    assert view.behind.tolist() == [False, False, False, True]
    assert view.words.tolist() == [3]
    assert made == ["words"]
    assert view.seen.tolist() == [7, 5]
    assert SequenceView(frame, torch.arange(4), seen=torch.tensor([9])).history == (9,)
    assert SequenceView(frame, torch.arange(4)).full == 2
