"""Retention laws: whatever can be asked of a strategy, its quota grants it to the token, or it says
what it can do.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import arbitrary
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import registry
from tokenprune.errors import StrategyError
from tokenprune.sequence import Recorded
from tokenprune.strategy import (
    Adjustable,
    Condenser,
    Extent,
    Pipeline,
    PrefillStage,
    VisionStage,
)
from tokenprune.tokens import TEXT, SequenceView, Survivors, VisualTokens

ADJUSTABLE = [
    pytest.param(kind, id=n)
    for n in registry.names()
    if issubclass(kind := registry.get(n), Adjustable)
]
extents = st.builds(Extent, st.integers(1, 40), st.integers(1, 60), st.integers(2, 12))
LAYERS = {"fastv": {"fastv.layer": 1}, "dart": {"dart.layer": 1}}
ratios = st.sampled_from([1.0, 0.75, 0.5, 0.25, 1 / 6]) | st.floats(0.01, 1.0)


def prompt_of(tokens: VisualTokens) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, slots and hidden states of a prompt that shows the tokens, with text around them."""
    text = torch.full((5,), TEXT)
    words = torch.randn(5, tokens.features.shape[1])
    return (
        torch.cat([text, tokens.frame, text]),
        torch.cat([text * 0, tokens.slot, text * 0]),
        torch.cat([words, tokens.features, words]),
    )


def measured(pipeline: Pipeline, extent: Extent) -> float:
    """The fraction that lives on average over layers, if the stages keep their quotas, which other
    laws see to.
    """
    (host,) = pipeline.hosts
    frame = torch.arange(extent.frames).repeat_interleave(extent.cells)
    slot = torch.arange(extent.cells).repeat(extent.frames)
    total = extent.frames * extent.cells
    # by chance two tokens in one place may be alike, which holitom merges whatever is asked
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(total, 16, generator=generator)
    shape = extent.frames, extent.cells
    tokens = VisualTokens(
        features,
        features,
        torch.rand(total, generator=generator),
        frame,
        slot,
        *shape,
        tower=features,
        summary=features[: extent.frames],
        text=features[:2],
    )
    if isinstance(host, VisionStage):
        return int(host.quota(tokens).sum()) / total
    if isinstance(host, Condenser):
        tokens = host.condense(tokens)
    if not isinstance(host, PrefillStage):
        return len(tokens) / total
    frame, slot, hidden = prompt_of(tokens)
    position, inputs, alive = torch.arange(len(frame)), hidden, []
    for layer in range(extent.depth):
        if layer in host.layers(extent.depth):
            states = hidden.unsqueeze(1)
            view = SequenceView(
                frame,
                position,
                frames=extent.frames,
                slot=slot,
                cells=extent.cells,
                layer=layer,
                depth=extent.depth,
                seen=torch.tensor(alive),
                reading=Recorded(hidden, hidden, states, inputs, states),
            )
            quota = host.quota(view)
            if not torch.equal(quota, view.counts):
                kept = host.prune(view, quota)
                rows = kept.rows if isinstance(kept, Survivors) else kept.nonzero().squeeze(-1)
                frame, slot, position = frame[rows], slot[rows], position[rows]
                changed = kept.hidden if isinstance(kept, Survivors) else None
                hidden = hidden[rows] if changed is None else changed
        alive.append(int((frame != TEXT).sum()))
    return sum(alive) / (extent.depth * total)


def reached(pipeline: Pipeline, ratio: float, extent: Extent) -> tuple[Pipeline | None, str]:
    """The pipeline at that retention, or why not."""
    try:
        return pipeline.retaining(ratio, extent), ""
    except StrategyError as error:
        return None, str(error)


def plain(strategy: Any) -> Any:
    """Itself without what depends on how frames resemble each other, as noise does by chance."""
    if strategy.name in ("holitom", "prunevid"):  # a static cell is one row for many frames
        return replace(strategy, similarity=1.0)
    if strategy.name == "framefusion":  # nor does it spend what it was given on merging
        return replace(strategy, similarity=1.0, enough=max(0.1, strategy.enough))
    if strategy.name == "fastvid" and strategy.follow == "qwen":  # leaves frames out
        return replace(strategy, follow="paper")
    return strategy


def lost(kind: Any, ratio: float, extent: Extent) -> float:
    """What VidCom2 loses at most, above one half: its share of a frame that it thinks the world of
    ends at all of the frame.
    """
    most = ratio * (2 - 1 / extent.frames)
    return max(0.0, most - 1) / extent.frames if kind.name == "vidcom2" else 0.0


@pytest.mark.parametrize("kind", ADJUSTABLE)
@given(st.data())
def test_quota_grants_what_is_asked_to_the_token_per_frame(kind: Any, data: st.DataObject) -> None:
    extent, ratio = data.draw(extents), data.draw(ratios)
    pipeline = Pipeline((plain(data.draw(arbitrary.configured(kind))),))
    assume(getattr(pipeline.strategies[0], "follow", "") != "released" or extent.frames > 4)
    adjusted, reason = reached(pipeline, ratio, extent)
    if adjusted is None:
        found = re.fullmatch(
            rf"{kind.name} retains ([\d.]+)% to ([\d.]+)% here, not [\d.]+%: \S.*", reason
        )
        assert found, reason
        least, most = (float(bound) / 100 for bound in found.groups())
        assert not least + 0.001 < ratio < most - 0.001, (
            "inside the range that the error itself names"
        )
        return
    # a condenser rounds up twice: what a frame keeps, and how many clusters it gets
    rows = 2 if issubclass(kind, Condenser) else 1
    within, over = rows / extent.cells + 1e-6, measured(adjusted, extent) - ratio
    assert -within - lost(kind, ratio, extent) <= over <= within
    assert adjusted.retaining(ratio, extent) == adjusted


@pytest.mark.parametrize("kind", ADJUSTABLE)
@given(st.data())
def test_whole_tokens_per_frame_are_met_exactly(kind: Any, data: st.DataObject) -> None:
    """The study gives all methods a number of tokens per frame: with whole windows nobody rounds it
    away.
    """
    extent = Extent(4 * data.draw(st.integers(1, 8)), data.draw(st.integers(1, 60)), 6)
    tokens = data.draw(st.integers(1, extent.cells))
    (strategy,) = registry.build(kind.name, LAYERS.get(kind.name, {})).strategies
    pipeline = Pipeline((plain(strategy),))
    adjusted, _ = reached(pipeline, tokens / extent.cells, extent)
    if adjusted is None:
        small = kind.name == "prunevid" and extent.cells <= 14  # it clusters larger groups only
        assert tokens / extent.cells < 0.25 or small
        return
    token = 1 / (extent.frames * extent.cells)
    steps = {"dycoke": 0.75 / extent.cells, "fastv": token, "dart": token}
    # pyramiddrop truncates at every event
    steps["pyramiddrop"] = 5 / 3 * token
    # and flashvid rounds clusters up in doubles, where a whole number may lie above itself
    steps["flashvid"] = 2 / extent.cells
    steps["sparsevlm"] = 2 * token  # its events jump by a token each
    steps["framefusion"] = 2 * token  # it truncates what merges
    steps["vidcom2"] = 1 / extent.cells  # every frame rounds its own share
    step = steps.get(kind.name, 0.0)
    over = measured(adjusted, extent) - tokens / extent.cells
    assert -lost(kind, tokens / extent.cells, extent) - step / 2 - 1e-9 <= over <= step / 2 + 1e-9


@pytest.mark.parametrize("kind", ADJUSTABLE)
@pytest.mark.parametrize("extent", [Extent(16, 36, 6), Extent(5, 196, 28), Extent(1, 1, 4)])
def test_everything_is_everything(kind: Any, extent: Extent) -> None:
    assert measured(registry.build(kind.name).retaining(1.0, extent), extent) == 1


@pytest.mark.parametrize(
    ("tokens", "merge"),
    [(27, 12 / 36), (18, 24 / 36), (9, 1.0)],
    ids=["75 %", "50 %", "25 %: anchors only"],
)
def test_dycoke_meets_the_budgets_of_the_study(tokens: int, merge: float) -> None:
    extent = Extent(16, 36, 6)
    adjusted = registry.build("dycoke").retaining(tokens / 36, extent)
    assert getattr(adjusted.strategies[0], "merge") == pytest.approx(merge)  # noqa: B009
    assert measured(adjusted, extent) == tokens / 36


def test_an_allocator_and_other_options_stay() -> None:
    pipeline = registry.build("prumerge+dytok", {"prumerge.grid": True, "dytok.layers": [2, 3]})
    adjusted = pipeline.retaining(0.5, Extent(16, 36, 6))
    assert adjusted == registry.build(
        "prumerge+dytok", {"prumerge.grid": True, "prumerge.keep": 0.5, "dytok.layers": [2, 3]}
    )


@pytest.mark.parametrize(
    ("spec", "ratio", "message"),
    [
        (
            "none",
            0.5,
            "none takes no retention: one Adjustable strategy may have a budget, here none has",
        ),
        (
            "visionzip+fastv",
            0.5,
            "one Adjustable strategy may have a budget, here visionzip and fastv",
        ),
        ("random", 0.0, "a retention is a fraction above 0 and up to 1, not 0"),
        ("random", 1.5, "not 1.5"),
        (
            "dycoke",
            0.2,
            "dycoke retains 25.0% to 100.0% here, not 20.0%: merging leaves 4 of 16 frames whole",
        ),
        (
            "fastv",
            0.2,
            "fastv retains 33.3% to 100.0% here, not 20.0%: below fastv.layer=2 all tokens live",
        ),
    ],
)
def test_what_cannot_be_reached_says_so(spec: str, ratio: float, message: str) -> None:
    with pytest.raises(StrategyError, match=re.escape(message)):
        registry.build(spec).retaining(ratio, Extent(16, 36, 6))
