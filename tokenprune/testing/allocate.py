"""The laws of allocators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategy import Pipeline
from tokenprune.testing.cases import OfFrames
from tokenprune.testing.equal import same, shown
from tokenprune.testing.inputs import TableProbe
from tokenprune.testing.law import applies, holds, law
from tokenprune.testing.vision import check_quota
from tokenprune.tokens import LastRow


@law("one finite weight per frame, none negative and not all zero")
def weights(strategy: Any, case: OfFrames) -> None:
    found, frames = strategy.weigh(case.probe), case.probe.frames
    holds(isinstance(found, Tensor), f"weigh returned {type(found).__name__}")
    holds(found.shape == (frames,), f"weigh returned {[*found.shape]} weights for {frames} frames")
    holds(found.isfinite().all(), f"weights are not finite: {shown(found)}")
    holds((found >= 0).all(), f"weights are negative: {shown(found)}")
    holds(float(found.sum()) > 0, "all weights are zero")


@law("the same guide gives the same weights")
def deterministic(strategy: Any, case: OfFrames) -> None:
    first = strategy.weigh(case.probe)
    holds(same(first, strategy.weigh(case.probe)), "the same guide gave other weights")


@law("weights go with their frames, whatever the order of frames")
def order_of_frames(strategy: Any, case: OfFrames) -> None:
    applies(not strategy.mixes_frames, "its frames decide about each other (mixes_frames)")
    found = strategy.weigh(frames_reversed(case.probe))
    holds(close(found, strategy.weigh(case.probe).flip(0)), "weights depend on the order of frames")


@law("weights do not depend on the order of heads")
def order_of_heads(strategy: Any, case: OfFrames) -> None:
    found = strategy.weigh(heads_reversed(case.probe))
    holds(close(found, strategy.weigh(case.probe)), "weights depend on the order of heads")


@law("the host's total stays, and no frame gets more than the cap; what cannot be is refused")
def total(strategy: Any, case: OfFrames) -> None:
    host, seen = case.host, case.seen
    pipeline: Any = Pipeline((host, strategy)).check()  # pyright: ignore[reportArgumentType]
    quota, given = host.quota(seen), strategy.weigh(case.probe)  # pyright: ignore[reportAttributeAccessIssue]
    cap = seen.counts if strategy.cap is None else seen.counts.clamp(max=strategy.cap)
    holds(torch.equal(pipeline.budget(host, seen, None), quota), "moves tokens without weights")
    if int(quota.sum()) > int(cap.sum()):
        try:
            pipeline.budget(host, seen, given)
        except StrategyError as error:
            told = "do not fit: " in str(error) and str(error).endswith(
                " raise the cap or keep fewer tokens"
            )
            holds(told, f"says of a total above its caps only: {error}")
            return
        holds(False, "took a total that its caps cannot hold")
    budget = pipeline.budget(host, seen, given)
    check_quota(budget, seen)
    holds(int(budget.sum()) == int(quota.sum()), "the host's total changed")
    holds((budget <= cap).all(), "a frame got more than its cap")


def close(one: Tensor, other: Tensor) -> bool:
    """As torch.testing.assert_close has it."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=1.3e-6, atol=1e-5)


def heads_reversed(probe: TableProbe) -> TableProbe:
    """Query heads in the opposite order, with the key heads they share."""
    rows = LastRow(probe.rows.queries.flip(1), probe.rows.keys.flip(1))
    return replace(probe, rows=rows, asked=None if probe.asked is None else probe.asked.flip(2))


def frames_reversed(probe: TableProbe) -> TableProbe:
    """The same frames last to first."""
    order = (probe.frames - 1 - probe.frame).argsort(stable=True)
    frame = (probe.frames - 1 - probe.frame)[order]
    rows = LastRow(probe.rows.queries, probe.rows.keys[:, :, order])
    states = None if probe.states is None else probe.states[order]
    return replace(probe, rows=rows, frame=frame, states=states)


ALLOCATE = (weights, deterministic, order_of_frames, order_of_heads, total)
