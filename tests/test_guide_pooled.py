"""A guide that sees frames pooled: what it reads, how far it runs, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from benches import FULL, TEXT, counted_by_torch, material
from families import FAMILIES
from models import llava_onevision, prompt
from test_families import everywhere
from torch import Tensor

from tokenprune import attach, registry
from tokenprune.bench.candidates import Attached
from tokenprune.bench.operations import exact
from tokenprune.bench.rows import work_of
from tokenprune.errors import TokenpruneError
from tokenprune.runtime.coarse import pooled
from tokenprune.runtime.recorder import Recorder
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategy import Condenser, Pipeline
from tokenprune.testing.inputs import table_probe
from tokenprune.tokens import Video, VisualTokens


def means(features: Tensor, video: Video, side: int) -> dict[tuple[int, int], Tensor]:
    """By frame and first cell of a square, the mean of its tokens; square by square."""
    grid = features.view(video.frames, video.height, video.width, -1)
    return {
        (frame, top * video.width + left): grid[frame, top : top + side, left : left + side].mean(
            (0, 1)
        )
        for frame in range(video.frames)
        for top in range(0, video.height, side)
        for left in range(0, video.width, side)
    }


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_squares_are_means_and_may_be_cut_off(side: int) -> None:
    video = Video(2, 5, 4)
    features = torch.randn(video.tokens, 3, generator=torch.Generator().manual_seed(0))
    found = pooled(features, video, side)
    expected = means(features, video, side)
    addresses = zip(found.frame.tolist(), found.slot.tolist(), strict=True)
    assert [*addresses] == [*expected]
    torch.testing.assert_close(found.features, torch.stack([*expected.values()]))
    assert len(found) == video.pooled(side).tokens == {1: 40, 2: 12, 3: 8, 8: 2}[side]


def hand(videos: Iterator[Video]) -> Pipeline:
    """The prompt of pooled frames as anyone may make it, at the language model's input."""

    @dataclass(frozen=True)
    class Squares(Condenser):
        """Pools in front of the model itself."""

        def condense(self, tokens: VisualTokens) -> VisualTokens:
            every = means(tokens.features, next(videos), 2)
            frame, slot = (torch.tensor([*part]) for part in zip(*every, strict=True))
            rows = torch.stack([*every.values()])
            return VisualTokens(rows, None, None, frame, slot, tokens.frames, tokens.cells)

    return Pipeline((Squares(),))


@everywhere
@torch.no_grad()
def test_a_guide_of_pooled_frames_reads_the_prompt_of_their_means(kind: str) -> None:
    """In every layer and sample, also padded, with several videos and with M-RoPE."""
    family = FAMILIES[kind]
    model, batch = family.model(), family.prompt()
    with attach(model, "none") as session:
        model(**batch.inputs)
    samples = [one for one in session.report.samples if one is not None]
    videos = [video for one in samples for video in one.videos]
    recorder = Recorder()
    with attach(model, hand(iter(videos)), recorder=recorder):
        model(**batch.inputs)
    for place, layer in enumerate(recorder.layers):
        options = {"dytok.pool": 2, "dytok.layers": [layer, layer]}
        with attach(model, "uniform+dytok", options) as session:
            model(**batch.inputs)
        assert session.report.probe == (layer + 1, 2, False)
        for number in batch.videos():
            weights, first = session.report[number].frame_weights, 0
            assert weights is not None
            for video in session.report[number].videos:
                own = torch.tensor(weights[first : first + video.frames])
                share = recorder.prompt.share[number, place, first : first + video.frames]
                torch.testing.assert_close(own, share / share.sum(), atol=1e-5, rtol=1e-4)
                first += video.frames


def test_a_batch_of_pooled_frames_is_weighed_as_its_samples_are_alone() -> None:
    model, texts = llava_onevision(), ((4, 5), (1, 9), (6, 2))
    batch = prompt(6, texts)
    with attach(model, "visionzip+dytok", {"dytok.pool": 2}) as session:
        model.generate(**batch, max_new_tokens=2, do_sample=False)
        together = session.report
        for number in range(len(texts)):
            real = batch["attention_mask"][number].bool()
            alone = {
                "input_ids": batch["input_ids"][number][real].unsqueeze(0),
                "pixel_values_videos": batch["pixel_values_videos"][number : number + 1],
            }
            model.generate(**alone, max_new_tokens=2, do_sample=False)
            torch.testing.assert_close(
                torch.tensor(together[number].frame_weights),
                torch.tensor(session.report[0].frame_weights),
            )


def test_the_model_itself_sees_nothing_of_it() -> None:
    """The answer depends on the frames' weights alone."""
    model, words = llava_onevision(), prompt(4)
    budgets = {}
    for pool in (1, 2):
        with attach(model, "uniform+dytok", {"dytok.pool": pool, "uniform.keep": 1.0}) as session:
            made = model.generate(**words, max_new_tokens=3, do_sample=False)
        budgets[pool] = made.tolist(), session.report[0].kept, session.report[0].frame_weights
    assert budgets[1][:2] == budgets[2][:2], "all tokens are kept, so nothing was moved"
    assert budgets[1][2] != budgets[2][2], "but frames were weighed otherwise"


def test_a_pooled_probe_is_counted_as_far_as_it_runs() -> None:
    given = material(attention="eager")
    options: dict[str, Any] = {"dytok.pool": 2, "dytok.layers": [2, 3]}
    own = Attached(given, 2, registry.build("random+dytok", options))
    seen = own.turn().seen
    assert (seen.probe.layers, seen.probe.side) == (4, 2)
    everything = 0
    for sign, candidate in ((1, own), (-1, Attached(given, 2, registry.build("random")))):
        with candidate.attached():
            everything += sign * counted_by_torch(lambda one=candidate: one.generate(1))
    work = work_of(seen, given, 1)
    assert (work.full, work.probed, work.text) == (FULL, 4 * 4, TEXT + 1)
    weighing = everything - exact(given.adapter.model.config, work).probe
    assert 0 <= weighing <= 2 * 4 * 8 * FULL, "the rows of attention that weigh the frames"


def test_weights_of_a_table_go_with_its_squares() -> None:
    """What laws try: four tokens of a frame in a row are a square there."""
    probe = table_probe(torch.Generator().manual_seed(0), frames=3, tokens=6)
    half = probe.pooled(2)
    assert half.frame.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(half.rows.keys[:, :, 0], probe.rows.keys[:, :, :4].mean(2))
    torch.testing.assert_close(half.rows.keys[:, :, 5], probe.rows.keys[:, :, 16:].mean(2))
    torch.testing.assert_close(DyToK(pool=2).weigh(probe), DyToK().weigh(half))
    assert torch.equal(probe.pooled(1).rows.keys, probe.rows.keys)


@pytest.mark.parametrize(
    ("value", "said"), [(0, "dytok.pool=0 is no square of tokens"), (-2, "dytok.pool=-2")]
)
def test_a_side_is_at_least_one(value: int, said: str) -> None:
    with pytest.raises(TokenpruneError, match=said):
        registry.build("uniform+dytok", {"dytok.pool": value})
