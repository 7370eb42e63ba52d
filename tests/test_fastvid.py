"""FastVID's properties as its description lists them, and what we decided where it is silent."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import clustering, hosted, ops, scenes
from tokenprune.bench.dispatch import Dispatched
from tokenprune.errors import StrategyError
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategies.fastvid import FastVID
from tokenprune.strategy import Extent, Pipeline
from tokenprune.tokens import Signals, VisualTokens


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(seed: int, lengths: list[int], cells: int, width: int = 8) -> VisualTokens:
    """A video of shots that differ, of frames that resemble each other."""
    shots = drawn(seed, len(lengths), 1, width).repeat_interleave(torch.tensor(lengths), 0)
    features = shots + 0.5 * drawn(seed + 1, sum(lengths), cells, width)
    return video(features.flatten(0, 1), cells, drawn(seed + 2, sum(lengths) * cells).abs())


def segments_of(strategy: FastVID, tokens: VisualTokens) -> list[int]:
    """The length of each segment."""
    mean = tokens.dense().mean(1)
    alike = ops.cosine(mean[:-1], mean[1:])
    return torch.bincount(scenes.segment_of(alike, strategy.similarity, strategy.segments)).tolist()


def numbers(strategy: FastVID, length: int, cells: int) -> tuple[list[int], list[int]]:
    """Salient tokens and anchors of each frame of one segment, by section 2.2."""
    k, p, d = int(cells * strategy.keep), strategy.stride, strategy.context
    groups = math.ceil(length / p)
    holding = [frame for frame in range(length) if (length - 1 - frame) % p == 0]
    assert len(holding) == groups
    anchors = [0] * length
    if strategy.follow == "released":
        salient = [k - int(k * d)] * length
        for frame in holding:
            anchors[frame] = int(k * d) * length // groups
    else:
        context = int(k * length * d)
        left = k * length - context
        salient = [left // length + (frame < left % length) for frame in range(length)]
        for place, frame in enumerate(reversed(holding)):
            anchors[frame] = context // groups + (place < context % groups)
    return salient, [min(number, cells - own) for number, own in zip(anchors, salient, strict=True)]


@pytest.mark.parametrize("follow", ["paper", "released"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.27, 0.5, 1.0])
def test_counts(keep: float, stride: int, follow: Any) -> None:
    tokens = clip(0, [5, 1, 9, 2], 20)
    strategy = FastVID(keep, segments=4, stride=stride, follow=follow)
    expected, lengths = [], segments_of(strategy, tokens)
    assert lengths == [5, 1, 9, 2]
    for length in lengths:
        salient, anchors = numbers(strategy, length, 20)
        expected += [one + other for one, other in zip(salient, anchors, strict=True)]
    out = strategy.condense(tokens)
    assert out.counts.tolist() == expected
    if follow == "paper" and keep < 0.5:
        assert len(out) == int(20 * keep) * 17


def test_the_example_of_the_method() -> None:
    """Five frames at 19 of 196: two anchor frames of 17 as released, of 19 in the paper."""
    tokens = video(drawn(0, 5 * 196, 4) + 9, 196, drawn(1, 5 * 196))
    paper, released = (FastVID(0.1, segments=1, follow=name) for name in ("paper", "released"))
    assert paper.condense(tokens).counts.tolist() == [12 + 19, 12, 11, 11, 11 + 19]
    assert released.condense(tokens).counts.tolist() == [12 + 17, 12, 12, 12, 12 + 17]


@pytest.mark.parametrize(
    ("keep", "salient", "context"), [(0.25, 30, 19), (0.2, 24, 15), (0.15, 18, 11), (0.1, 12, 7)]
)
def test_the_published_budgets_of_196_cells(keep: float, salient: int, context: int) -> None:
    """Released counts per frame; the one anchor frame of four has those of all."""
    tokens = video(drawn(0, 4 * 196, 4) + 9, 196, drawn(1, 4 * 196))
    counts = FastVID(keep, segments=1, follow="released").condense(tokens).counts
    assert counts.tolist() == [salient, salient, salient, salient + 4 * context]


def by_hand(strategy: FastVID, tokens: VisualTokens) -> tuple[list[tuple[int, int]], Tensor]:
    """Addresses and features, frame by frame and token by token."""
    x, cells = tokens.dense(), tokens.cells
    assert tokens.saliency is not None
    scores, found = tokens.saliency.view(-1, cells), {}
    start = 0
    for length in segments_of(strategy, tokens):
        salient, anchors = numbers(strategy, length, cells)
        frames = range(start, start + length)
        rest = {}
        for frame in frames:
            order = scores[frame].argsort(descending=True, stable=True).tolist()
            for cell in order[: salient[frame - start]]:
                found[frame, cell] = x[frame, cell]
            rest[frame] = sorted(order[salient[frame - start] :])
        for frame in frames:
            if not (number := anchors[frame - start]):
                continue
            free = x[frame, rest[frame]].unsqueeze(0)
            everyone = torch.ones(1, len(rest[frame]), dtype=torch.bool)
            peaks = clustering.density_peaks(free, everyone, torch.tensor([number]), 4)
            centres = [rest[frame][place] for place in peaks.centre[0].tolist()]
            share = int(int(cells * strategy.keep) * strategy.context)
            alone = strategy.follow == "released" and number == share
            centres = centres if strategy.follow == "released" else sorted(centres)
            joined: dict[int, list[Tensor]] = {cell: [] for cell in centres}
            for other in [frame] if alone else frames:
                for cell in rest[other]:
                    if strategy.follow == "released" or other != frame or cell not in centres:
                        similar = ops.cosine(x[other, cell].expand(number, -1), x[frame, centres])
                        joined[centres[int(similar.argmax())]].append(x[other, cell])
            for cell, others in joined.items():
                own, value = max(1 / (len(others) + 1), strategy.beta), x[frame, cell]
                mean = torch.stack(others).mean(0) if others else value
                found[frame, cell] = own * value + (1 - own) * mean
        start += length
    addresses = sorted(found)
    return addresses, torch.stack([found[address] for address in addresses])


@pytest.mark.parametrize("follow", ["paper", "released"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_all_of_it_by_hand(stride: int, beta: float, follow: Any) -> None:
    tokens = clip(3, [5, 1, 4], 20)
    strategy = FastVID(0.3, segments=3, stride=stride, beta=beta, follow=follow)
    out = strategy.condense(tokens)
    addresses, features = by_hand(strategy, tokens)
    assert [*zip(out.frame.tolist(), out.slot.tolist(), strict=True)] == addresses
    torch.testing.assert_close(out.features, features)


def test_without_context_only_salient_tokens_stay() -> None:
    tokens = clip(1, [4, 3], 12)
    out = FastVID(0.25, context=0.0).condense(tokens)
    assert tokens.saliency is not None
    top = tokens.saliency.view(7, 12).topk(3).indices.sort().values
    assert torch.equal(out.slot.view(7, 3), top)
    assert torch.equal(out.features, tokens.dense()[out.frame, out.slot])
    assert out.members is not None
    assert int((out.members >= 0).sum()) == 21


def test_an_anchor_that_weighs_all_is_unchanged_and_salient_tokens_are() -> None:
    tokens = clip(1, [4, 3], 12)
    whole = FastVID(0.25, beta=1.0).condense(tokens)
    assert torch.equal(whole.features, tokens.dense()[whole.frame, whole.slot])
    out, before = FastVID(0.25).condense(tokens), tokens.dense()[whole.frame, whole.slot]
    assert torch.equal(out.slot, whole.slot)
    same = (out.features == before).all(-1)
    assert 0 < int((~same).sum()) <= int(0.4 * len(out))


def test_every_frame_may_be_a_segment() -> None:
    tokens = clip(1, [4, 3], 12)
    for strategy in (FastVID(segments=7, similarity=-1.0), FastVID(segments=99)):
        assert segments_of(strategy, tokens) == [1] * 7
        assert strategy.condense(tokens).counts.tolist() == [3] * 7


def test_permuted_cells_permute_the_result() -> None:
    tokens, order = clip(4, [6, 2], 16), drawn(9, 16).argsort()
    where = (torch.arange(8).unsqueeze(-1) * 16 + order).flatten()
    moved = dataclasses.replace(tokens[where], slot=tokens.slot)
    one, other = (FastVID(0.3, segments=2).condense(t) for t in (tokens, moved))
    address = other.frame * 16 + order[other.slot]
    assert torch.equal(address.sort().values, one.frame * 16 + one.slot)
    torch.testing.assert_close(other.features[address.argsort()], one.features)


def test_members_name_the_first_of_several_anchors() -> None:
    """In one segment of five frames with anchors in the first and the last."""
    tokens = clip(2, [5], 12)
    out = FastVID(0.3, segments=1, similarity=-1.0).condense(tokens)
    assert out.members is not None
    assert bool((out.members >= 0).all())
    own = out.frame * 12 + out.slot
    assert torch.equal(out.members[own], torch.arange(len(out)))
    others = torch.ones(60, dtype=torch.bool).index_fill(0, own, False)
    assert out.frame[out.members[others]].unique().tolist() == [0]


def test_near_frames_only_feed_anchors() -> None:
    """Of two frames that are the same the first keeps nothing."""
    x = (0.3 * drawn(0, 4, 12, 8) + drawn(1, 4, 1, 8))[[0, 1, 1, 2]]
    tokens = video(x.flatten(0, 1), 12, drawn(2, 48))
    strategy = FastVID(0.4, segments=1, similarity=-1.0, follow="qwen")
    out = strategy.condense(tokens)
    # 16 tokens, 6 of them anchors, all in the last frame; of the other 10 the first frame has 4
    assert out.counts.tolist() == [4, 0, 3, 3 + 6]
    assert out.members is not None
    assert out.members[12:24].tolist() != [-1] * 12
    lowest = dataclasses.replace(strategy, near=1.1)
    assert 0 not in lowest.condense(tokens).counts


def test_many_anchors_leave_room_for_half_a_frame_of_salient_tokens() -> None:
    tokens = clip(1, [3], 12)
    strategy = FastVID(1.0, segments=1, similarity=-1.0, context=0.9, follow="qwen", near=1.1)
    assert strategy.condense(tokens).counts.tolist() == [2, 1, 1 + 6]


def test_a_frame_alone_always_has_an_anchor() -> None:
    tokens = video(drawn(0, 12, 4), 12, drawn(1, 12))
    for context in (0.0, 0.4):
        out = FastVID(0.1, context=context, follow="qwen").condense(tokens)
        assert len(out) == 1
        assert out.members is not None
        assert out.members.tolist() == [0] * 12


def test_the_pooling_head_is_asked_for_and_compares_frames() -> None:
    assert FastVID().signals() == Signals(saliency="pseudo_cls")
    published = FastVID(segments=2, similarity=-1.0, saliency="pooling_head")
    assert published.signals() == Signals(saliency="pooling_head", summary="pooling_head")
    tokens = clip(1, [3, 3], 12)
    with pytest.raises(StrategyError, match="summary="):
        published.condense(tokens)
    summary = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]])
    out = published.condense(dataclasses.replace(tokens, summary=summary))
    # one frame and five: anchors in the first, and in the first and the last of the others
    assert out.counts.tolist() == [3, 5, 2, 2, 2, 4]


@pytest.mark.parametrize("follow", ["paper", "released", "qwen"])
def test_the_host_asks_once(follow: Any) -> None:
    """For the similarity of frames, whatever the segments are; tokens per frame are known."""
    tokens = clip(3, [5, 1, 4, 1, 1], 20)
    hosted.note_counts(tokens.frame, [20] * 12)
    with Dispatched() as counted:
        out = FastVID(0.3, segments=3, follow=follow).condense(tokens)
        assert hosted.numbers(out.counts)
    assert counted.number("reads") == 1


@given(arbitrary.visual_tokens(), st.data())
def test_any_video(tokens: VisualTokens, data: st.DataObject) -> None:
    """Ragged ones, empty frames, ties and zeros."""
    drawn_one = data.draw(arbitrary.configured(FastVID))
    strategy = dataclasses.replace(drawn_one, saliency="pseudo_cls")  # pyright: ignore[reportArgumentType]
    out = strategy.condense(tokens)  # pyright: ignore[reportAttributeAccessIssue]
    assert (out.frames, out.cells) == (tokens.frames, tokens.cells)
    assert bool((out.frame.diff() >= 0).all())
    address, known = (t.frame * t.cells + t.slot for t in (out, tokens))
    assert len(address.unique()) == len(address)
    assert bool(torch.isin(address, known).all())
    assert bool((out.counts <= tokens.counts).all())
    assert bool(out.features.isfinite().all())
    assert out.members is not None
    assert {*out.members.tolist()} - {-1} == {*range(len(out))}


@pytest.mark.parametrize("tokens", [1, 19, 35, 49, 98, 196])
def test_retaining(tokens: int) -> None:
    """Anchors are as many as frames hold, and truncation loses no token."""
    adjusted = FastVID().retaining(tokens / 196, Extent(32, 196, 28))
    assert ops.count(196, adjusted.keep, "down") == tokens
    assert adjusted.context == (
        0.4 if tokens < 90 else pytest.approx(96 / 294 if tokens == 98 else 0)
    )
    shown = clip(0, [8, 4, 1, 19], 196)
    assert len(adjusted.condense(shown)) == tokens * 32


def test_it_hosts_no_allocator_and_keeps_positions() -> None:
    with pytest.raises(StrategyError, match="fastvid keeps as many tokens of a frame as"):
        Pipeline((FastVID(), DyToK())).check()
    assert Pipeline((FastVID(),)).input_positions("contiguous") == "original"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": 1.5}, "fastvid.keep=1.5 is not a fraction"),
        ({"context": -0.1}, "fastvid.context=-0.1 is not a fraction"),
        ({"beta": 2.0}, "fastvid.beta=2.0 is not a fraction"),
        ({"segments": 0}, "fastvid.segments, stride and neighbours count: write 1 or more"),
        ({"stride": 0}, "fastvid.segments, stride and neighbours count: write 1 or more"),
        ({"neighbours": 0}, "fastvid.segments, stride and neighbours count: write 1 or more"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        FastVID(**options)
