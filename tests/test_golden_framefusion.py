"""FrameFusion's released cascades, event by event, and its budget rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from golden_cases import FILES, array, close, named
from torch import Tensor

from tokenprune import resembling
from tokenprune.sequence import TEXT, Recorded, SequenceView, Survivors
from tokenprune.strategies.framefusion import FrameFusion, due, required
from tokenprune.tokens import VisualTokens

DEPTH = 28  # as released


def options(file: str, case: str) -> dict[str, float]:
    cost, similarity, enough = array(file, f"f{case}_options").tolist()
    return {"cost": cost, "similarity": similarity, "enough": enough}


@pytest.mark.parametrize(("file", "case"), named(r"q(\d+)_ratio", of="framefusion"))
def test_what_is_required(file: str, case: str) -> None:
    shares = array(file, f"q{case}_sparsity").tolist()
    cost, depth = array(file, f"q{case}_args").tolist()
    assert required(shares, cost, int(depth)) == pytest.approx(float(array(file, f"q{case}_ratio")))


def prompt(file: str, case: str) -> tuple[Tensor, Tensor, int, int]:
    """Frame and slot of every row of the prompt, and how many frames and cells there are."""
    start, cells, frames, _ = array(file, f"f{case}_meta").tolist()
    slot = array(file, f"f{case}_patch_type").long()
    frame = torch.full_like(slot, TEXT)
    frame[start : start + frames * cells] = torch.arange(frames).repeat_interleave(cells)
    assert torch.equal(frame == TEXT, slot == -1)
    return frame, slot.clamp(min=0), frames, cells


def check_similarity(file: str, name: str, states: Tensor, slot: Tensor) -> None:
    _, similar = resembling.to_previous(states, slot)
    real = similar > -torch.inf
    close(similar[real], array(file, name)[real])


@pytest.mark.parametrize(("file", "case"), named(r"f(\d+)_events", of="framefusion"))
def test_a_cascade(file: str, case: str) -> None:
    strategy = FrameFusion(**options(file, case))
    frame, slot, frames, cells = prompt(file, case)
    visual, seen = frame != TEXT, [frames * cells]

    def expected(name: str, event: int) -> Any:
        return array(file, f"f{case}_{name}{event}")

    tokens = VisualTokens(
        expected("in", 0)[visual], None, None, frame[visual], slot[visual], frames, cells
    )
    condensed = strategy.condense(tokens)
    left = expected("kept", 0)
    of_video = visual[left]
    close(condensed.features, expected("out", 0)[of_video])
    assert torch.equal(condensed.frame, frame[left][of_video])
    assert torch.equal(condensed.slot, slot[left][of_video])
    check_similarity(file, f"f{case}_similarity0", tokens.features, slot[visual])
    alive = torch.arange(len(frame))[left]
    seen.append(int(of_video.sum()))
    check_standing(file, case, 0, seen)

    for event in range(1, int(array(file, f"f{case}_events"))):
        hidden, now = expected("in", event), frame[alive]
        pruning = f"f{case}_similarity{event}" not in FILES[file]
        read: dict[str, Any] = {}  # what it does not read here it does not have
        if pruning:
            read["attention"] = array(file, f"f{case}_attention").mean(0)
        view = SequenceView(
            now,
            alive,
            **read,
            frames=frames,
            slot=slot[alive],
            cells=cells,
            layer=event,
            depth=DEPTH,
            seen=torch.tensor(seen[1:]),
            reading=Recorded(hidden=None if pruning else hidden),
        )
        quota = strategy.quota(view)
        kept = strategy.prune(view, quota)
        rows = expected("kept", event)
        if pruning:
            assert isinstance(kept, Tensor)
            assert kept.nonzero().squeeze(-1).tolist() == rows.tolist()
            close(hidden[kept], expected("out", event))
        else:
            assert isinstance(kept, Survivors)
            assert kept.hidden is not None
            assert kept.rows.tolist() == rows.tolist()
            close(kept.hidden, expected("out", event))
            video = now != TEXT
            name = f"f{case}_similarity{event}"
            check_similarity(file, name, hidden[video], slot[alive][video])
        alive = alive[rows]
        seen.append(int((frame[alive] != TEXT).sum()))
        assert int(quota.sum()) == seen[-1]
        check_standing(file, case, event, seen)
    assert alive.tolist() == array(file, f"f{case}_rows").tolist()
    merged = [(a - b) / a for a, b in pairwise(seen)]
    shares = array(file, f"f{case}_sparsity").tolist()
    assert merged[: len(shares)] == pytest.approx(shares)


def check_standing(file: str, case: str, event: int, seen: list[int]) -> None:
    """What counts alone say is due is what the release remembers."""
    some = options(file, case)
    merging_is_over, pruning_is_over = array(file, f"f{case}_state{event}").tolist()
    what = "merge" if not merging_is_over else "nothing" if pruning_is_over else "prune"
    assert due(seen, some["cost"], some["enough"], DEPTH)[0] == what
