"""PyramidDrop's released ranking, event by event."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from golden_cases import array, named
from torch import Tensor

from tokenprune.sequence import TEXT, Recorded, SequenceView
from tokenprune.strategies.pyramiddrop import PyramidDrop

FRAMES, DEPTH = 3, 32


def rows(start: int, visual: int, behind: int) -> Tensor:
    """The frames of a prompt's rows, which the release does not know of."""
    video = torch.arange(visual) * FRAMES // max(1, visual)
    return torch.cat([torch.full((start,), TEXT), video, torch.full((behind,), TEXT)])


def view_of(
    file: str, name: str, event: int, frame: Tensor, seen: Tensor, layer: int
) -> SequenceView:
    queries, keys = array(file, f"p{name}_q{event}"), array(file, f"p{name}_k{event}")
    table = torch.zeros(len(frame), *queries.shape)
    table[-1] = queries  # only the last row may be asked for
    return SequenceView(
        frame,
        torch.arange(len(frame)),
        frames=FRAMES,
        layer=layer,
        depth=DEPTH,
        seen=seen,
        reading=Recorded(keys=keys.transpose(0, 1), queries=table),
    )


@pytest.mark.parametrize(("file", "case"), named(r"p(\d+)_meta", of="pyramiddrop"))
def test_every_event(file: str, case: str) -> None:
    start, visual, behind, *_, events = array(file, f"p{case}_meta").tolist()
    ratios = array(file, f"p{case}_ratios").tolist()
    pyramid = all(abs(after - before * ratios[0]) < 1e-9 for before, after in pairwise(ratios))
    frame = rows(start, visual, behind)
    alive, seen = torch.arange(len(frame)), [visual]
    for event in range(events):
        expected = array(file, f"p{case}_kept{event}")
        # the ratio of the original number by itself, and where a pyramid has it by its event
        forms = [(PyramidDrop(keep=ratios[event]), 1)]
        forms += [(PyramidDrop(keep=ratios[0], stages=events + 1), event + 1)] * pyramid
        for strategy, number in forms:
            layer = strategy.layers(DEPTH)[number - 1]
            counts = torch.tensor(seen).repeat_interleave(-(-layer // len(seen)))[:layer]
            view = view_of(file, case, event, frame[alive], counts, layer)
            quota = strategy.quota(view)
            kept = strategy.prune(view, quota)
            assert kept.nonzero().squeeze(-1).tolist() == expected.tolist()
            assert int(quota.sum()) == int((kept & view.visual).sum())
        assert array(file, f"p{case}_position{event}").tolist() == [*range(len(expected))]
        alive = alive[expected]
        seen.append(int((frame[alive] != TEXT).sum()))
    assert alive.tolist() == array(file, f"p{case}_rows").tolist()
