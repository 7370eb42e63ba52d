"""What every strategy guarantees, as functions: a strategy defined anywhere, also in a test, can be
held to them.

Each takes a strategy and an arbitrary input, and raises AssertionError where a law is broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from arbitrary import TableProbe
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategy import Allocator, DecodeStage, Pipeline, PrefillStage, VisionStage
from tokenprune.tokens import LastRow, SequenceView, VisualTokens

Sources = Callable[[int], set[int]]  # the other frames that may decide what a frame keeps


def alone(frame: int) -> set[int]:
    return set()


def copied(value: Any) -> Any:
    fields = {name: v.clone() for name, v in vars(value).items() if isinstance(v, Tensor)}
    return dataclasses.replace(value, **fields)


def same(one: Any, other: Any) -> bool:
    """Whether two views, token sets or tensors hold the same, bit for bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    return all(
        same(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(parts(one), parts(other), strict=True)
    )


def parts(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def check_quota(quota: Tensor, seen: VisualTokens | SequenceView) -> None:
    assert quota.dtype == torch.int64
    assert quota.device == seen.frame.device
    assert quota.shape == (seen.frames,)
    assert bool((quota >= 0).all())
    assert bool((quota <= seen.counts).all())


def check_vision(
    strategy: VisionStage,
    tokens: VisualTokens,
    budget: Tensor,
    disturbed: int = 0,
    sources: Sources = alone,
    adaptive: bool = False,
) -> None:
    """The laws of vision stages, at the strategy's own quota, at `budget`, and at full budget.

    Frame `disturbed` gets other contents, which only the frames with it among their `sources` may
    notice. A full budget is the identity where it was asked for: an `adaptive` rule that arrives at
    all tokens of a frame may merge them.
    """
    before = copied(tokens)
    quota = strategy.quota(tokens)
    check_quota(quota, tokens)
    for asked in (quota, budget, tokens.counts):
        kept = strategy.compress(tokens, asked)
        check_kept(kept, tokens, asked)
        assert same(kept, strategy.compress(tokens, asked)), "not deterministic"
    assert same(tokens, before), "the input was changed"
    assert torch.equal(quota, strategy.quota(tokens))

    full = strategy.compress(tokens, tokens.counts)
    whole = (quota < tokens.counts) | (not adaptive)
    assert torch.equal(*(contents(t)[whole[t.frame]] for t in (full, tokens))), (
        "full budget is not the identity"
    )

    others = disturb(tokens, disturbed)
    rest = [
        frame
        for frame in range(tokens.frames)
        if frame != disturbed and disturbed not in sources(frame)
    ]
    assert torch.equal(strategy.quota(others)[rest], quota[rest]), "frames mix in the quota"
    one, two = strategy.compress(tokens, budget), strategy.compress(others, budget)
    apart = torch.isin(one.frame, torch.tensor(rest, device=one.frame.device, dtype=torch.long))
    assert same(one[apart], two[apart]), "frames mix"


def check_kept(kept: VisualTokens, tokens: VisualTokens, asked: Tensor) -> None:
    """Exactly the budget, in frame order, every token with the slot of one input token of its
    frame.
    """
    assert torch.equal(kept.counts, asked)
    assert (kept.frames, kept.cells) == (tokens.frames, tokens.cells)
    assert bool((kept.frame.diff() >= 0).all())
    address, known = (t.frame * t.cells + t.slot for t in (kept, tokens))
    assert len(address.unique()) == len(address), "a slot is used twice"
    assert bool(torch.isin(address, known).all()), "a slot is not from the input"
    for before, after in zip(parts(tokens)[:5], parts(kept)[:5], strict=True):
        assert (after.dtype, after.device) == (before.dtype, before.device)
        assert len(after) == int(asked.sum())
    assert bool(kept.features.isfinite().all())


def contents(tokens: VisualTokens) -> Tensor:
    """The features in order of frame and slot."""
    return tokens.features[(tokens.frame * tokens.cells + tokens.slot).argsort()]


def disturb(tokens: VisualTokens, frame: int) -> VisualTokens:
    """The same tokens with other features, keys and saliency in one frame."""
    inside = tokens.frame == frame
    changed: dict[str, Any] = {}
    for name in ("features", "keys", "saliency"):
        values = getattr(tokens, name)
        if values is not None:
            changed[name] = values.clone()
            changed[name][inside] = (
                1 - 2 * values[inside].flip(0) if name != "saliency" else values[inside].flip(0) + 1
            )
    return dataclasses.replace(tokens, **changed)


def check_prefill(
    strategy: PrefillStage, view: SequenceView, budget: Tensor, disturbed: int = 0
) -> None:
    """The laws of prefill stages, at the strategy's own quota, at `budget`, and at full budget."""
    before = copied(view)
    quota = strategy.quota(view)
    check_quota(quota, view)
    for asked in (quota, budget, view.counts):
        kept = strategy.prune(view, asked)
        assert (kept.dtype, kept.device, kept.shape) == (
            torch.bool,
            view.frame.device,
            view.frame.shape,
        )
        assert bool(kept[~view.visual].all()), "text was dropped"
        survivors = view.frame[kept & view.visual]
        assert torch.equal(torch.bincount(survivors, minlength=view.frames), asked)
        assert torch.equal(kept, strategy.prune(view, asked)), "not deterministic"
    assert torch.equal(quota, strategy.quota(view))
    assert bool(strategy.prune(view, view.counts).all()), "full budget is not the identity"
    inside = view.frame == disturbed
    attention = torch.where(inside, 1 - view.attention, view.attention)
    other = strategy.prune(dataclasses.replace(view, attention=attention), budget)
    assert torch.equal(other[~inside], strategy.prune(view, budget)[~inside]), (
        "frames mix under a budget"
    )
    assert same(view, before), "the input was changed"


def masks(strategy: DecodeStage[Any], steps: Sequence[SequenceView]) -> list[Tensor]:
    state, seen = strategy.start(), []
    for view in steps:
        mask, state = strategy.attend(view, state)
        seen.append(mask)
    return seen


def check_decode(
    strategy: DecodeStage[Any], steps: Sequence[SequenceView], others: Sequence[SequenceView]
) -> None:
    """The laws of decode stages, on the steps of two samples."""
    before = [copied(view) for view in steps]
    expected, beside = masks(strategy, steps), masks(strategy, others)
    for mask, view in zip(expected, steps, strict=True):
        assert (mask.dtype, mask.device, mask.shape) == (
            torch.bool,
            view.frame.device,
            view.frame.shape,
        )
        assert bool(mask[~view.visual].all()), "text was hidden"
    again = masks(strategy, steps)
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True)), (
        "state leaked into a later sample"
    )
    assert all(same(a, b) for a, b in zip(steps, before, strict=True)), "the input was changed"

    states, results = [strategy.start(), strategy.start()], ([], [])
    for step in range(max(len(steps), len(others))):
        for sample, views in enumerate((steps, others)):
            if step < len(views):
                mask, states[sample] = strategy.attend(views[step], states[sample])
                results[sample].append(mask)
    for alone_, together in zip((expected, beside), results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone_, together, strict=True)), (
            "state leaked between samples"
        )

    first, kept = steps[0], strategy.start()
    mask, advanced = strategy.attend(first, kept)
    assert torch.equal(mask, strategy.attend(first, kept)[0]), "a state was changed in place"
    if len(steps) > 1:
        assert torch.equal(
            strategy.attend(steps[1], advanced)[0], strategy.attend(steps[1], advanced)[0]
        )


def check_allocator(
    strategy: Allocator,
    probe: TableProbe,
    host: VisionStage | PrefillStage,
    seen: VisualTokens | SequenceView,
) -> None:
    """The laws of allocators: one weight per frame whatever the order of frames and heads, and the
    host's total.
    """
    weights = strategy.weigh(probe)
    assert weights.shape == (probe.frames,)
    assert bool(weights.isfinite().all())
    assert bool((weights >= 0).all())
    assert float(weights.sum()) > 0
    assert torch.equal(weights, strategy.weigh(probe)), "not deterministic"
    for moved in (heads_reversed(probe), frames_reversed(probe)):
        expected = weights if moved.frame is probe.frame else weights.flip(0)
        torch.testing.assert_close(strategy.weigh(moved), expected)

    pipeline = Pipeline((host, strategy)).check()
    quota, cap = host.quota(seen), seen.counts  # pyright: ignore[reportArgumentType]
    cap = cap if strategy.cap is None else cap.clamp(max=strategy.cap)
    if int(quota.sum()) > int(cap.sum()):
        with pytest.raises(
            StrategyError, match=r"do not fit: .* raise the cap or keep fewer tokens$"
        ):
            pipeline.budget(host, seen, weights)
    else:
        budget = pipeline.budget(host, seen, weights)
        check_quota(budget, seen)
        assert int(budget.sum()) == int(quota.sum()), "the host's total changed"
        assert bool((budget <= cap).all()), "a frame got more than its cap"
    assert torch.equal(pipeline.budget(host, seen, None), quota)


def heads_reversed(probe: TableProbe) -> TableProbe:
    """Query heads in the opposite order, with the key heads they share."""
    return dataclasses.replace(
        probe, rows=LastRow(probe.rows.queries.flip(1), probe.rows.keys.flip(1))
    )


def frames_reversed(probe: TableProbe) -> TableProbe:
    """The same frames last to first."""
    order = (probe.frames - 1 - probe.frame).argsort(stable=True)
    frame = (probe.frames - 1 - probe.frame)[order]
    return dataclasses.replace(
        probe, rows=LastRow(probe.rows.queries, probe.rows.keys[:, :, order]), frame=frame
    )
