"""FlashVID's released functions on the golden inputs."""

from __future__ import annotations

import pytest
import torch
from arbitrary import video
from golden_cases import array, close, named
from torch import Tensor
from torch.nn import functional

from tokenprune import ops, scenes, trees
from tokenprune.strategies.flashvid import FlashVID
from tokenprune.tokens import TEXT, SequenceView, VisualTokens


def addresses(tokens: VisualTokens) -> list[list[int]]:
    return torch.stack([tokens.frame, tokens.slot], dim=1).tolist()


def expected(file: str, name: str) -> list[list[int]]:
    return torch.stack([array(file, f"{name}_{part}") for part in ("frame", "slot")], 1).tolist()


def inputs(file: str, name: str) -> VisualTokens:
    features, attention = (array(file, f"{name}_{part}") for part in ("features", "attention"))
    return video(features.flatten(0, 1), features.shape[1], attention.flatten())


@pytest.mark.parametrize(("file", "case"), named(r"flashvid(\d+)_settings", of="flashvid"))
def test_the_first_stage(file: str, case: str) -> None:
    name = f"flashvid{case}"
    keep, expansion, alpha, similarity, transition, least, cut, version = array(
        file, f"{name}_settings"
    ).tolist()
    tokens = inputs(file, name)
    strategy = FlashVID(
        keep=keep,
        expansion=expansion,
        alpha=alpha,
        similarity=similarity,
        transition=transition,
        segments=int(least) if cut else None,
        relevance=version == 2,
        follow="released",
    )
    kept = strategy.condense(tokens)
    assert addresses(kept) == expected(file, name)
    close(kept.features, array(file, f"{name}_out"), atol=1e-4)

    lengths = array(file, f"{name}_segments")
    mean = array(file, f"{name}_features").mean(1)
    segment = torch.arange(len(lengths)).repeat_interleave(lengths)
    if cut:
        found = scenes.segment_of(ops.cosine(mean[1:], mean[:-1]), transition, int(least))
        assert torch.equal(found, segment)
    members = kept.members
    assert members is not None
    stays = members >= 0
    assert torch.equal(segment[kept.frame[members[stays]]], segment[tokens.frame[stays]])


@pytest.mark.parametrize(("file", "case"), named(r"adts(\d+)_keep", of="flashvid"))
def test_picks(file: str, case: str) -> None:
    """With all of the budget for them they are all that is left."""
    name = f"adts{case}"
    tokens, number = inputs(file, name), int(array(file, f"{name}_k"))
    strategy = FlashVID(
        keep=max(0.0, number - 0.5) / tokens.cells,  # rounded up, whatever a double makes of it
        expansion=1.0,
        alpha=1.0,
        segments=None,
        relevance=int(array(file, f"{name}_version")) == 2,
        follow="released",
    )
    kept = strategy.condense(tokens)
    assert kept.slot.unflatten(0, (tokens.frames, number)).tolist() == (
        array(file, f"{name}_keep").tolist()
    )
    own = kept.frame * tokens.cells + kept.slot
    assert torch.equal(kept.features, tokens.features[own])


@pytest.mark.parametrize("follow", ["released", "paper"])
@pytest.mark.parametrize(("file", "case"), named(r"tstm(\d+)_out", of="flashvid"))
def test_trees(file: str, case: str, follow: trees.Follow) -> None:
    name = f"tstm{case}"
    features, free = array(file, f"{name}_features"), array(file, f"{name}_free").bool()
    frames, cells = free.shape
    per_frame = int(array(file, f"{name}_numbers").sum())
    parent = trees.parents(
        functional.normalize(features, dim=-1),
        ~free,
        torch.zeros(frames, dtype=torch.long),
        torch.full((frames,), cells - per_frame),
        float(array(file, f"{name}_threshold")),
        follow,
    )
    root = trees.roots(parent, frames)
    value = trees.values(features.flatten(0, 1), parent, root, follow)
    rows = (free.flatten() & (root == torch.arange(len(root)))).nonzero().squeeze(1)
    assert [[r // cells, r % cells] for r in rows.tolist()] == expected(file, name)
    close(
        value[rows], array(file, f"{name}_{'out' if follow == 'released' else follow}"), atol=1e-4
    )


def view_of(attention: Tensor, first: int, visual: int) -> SequenceView:
    frame = torch.full((attention.shape[-1],), TEXT)
    frame[first : first + visual] = 0
    return SequenceView(frame, torch.arange(len(frame)), attention.mean(0))


@pytest.mark.parametrize(("file", "case"), named(r"flashinner(\d+)_keep", of="flashvid"))
def test_the_inner_stage(file: str, case: str) -> None:
    name = f"flashinner{case}"
    view = view_of(array(file, f"{name}_attention"), *array(file, f"{name}_meta").tolist())
    strategy = FlashVID(inner=float(array(file, f"{name}_share")))
    kept = strategy.prune(view, strategy.quota(view))
    assert isinstance(kept, Tensor)
    assert view.position[kept].tolist() == array(file, f"{name}_keep").tolist()
    assert int(strategy.quota(view).sum()) == ops.count(
        int(view.visual.sum()), strategy.inner, "up"
    )
