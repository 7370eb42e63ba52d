"""FastVID beside its three releases: one follows the paper's rule, one drops frames, too."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from arbitrary import video
from golden_cases import array, close, named
from torch import Tensor

from tokenprune import ops, scenes
from tokenprune.strategies.fastvid import FastVID
from tokenprune.tokens import VisualTokens


def tokens_of(file: str, case: str) -> VisualTokens:
    features, attention = array(file, f"{case}_features"), array(file, f"{case}_attention")
    return video(features.flatten(0, 1), features.shape[1], attention.flatten())


def check(out: VisualTokens, file: str, case: str) -> None:
    def of(name: str) -> Tensor:
        return array(file, f"{case}_{name}")

    assert torch.equal(out.frame, of("frame"))
    assert torch.equal(out.slot, of("slot"))
    close(out.features, of("out"), atol=1e-4)


def check_segments(summary: Tensor, strategy: FastVID, file: str, case: str) -> None:
    alike = ops.cosine(summary[:-1], summary[1:])
    found = scenes.segment_of(alike, strategy.similarity, strategy.segments)
    assert torch.equal(torch.bincount(found), array(file, f"{case}_segments"))


@pytest.mark.parametrize(("file", "case", "paper"), named(r"(fastvid(paper)?\d+)_features"))
def test_video(file: str, case: str, paper: str | None) -> None:
    keep, segments, similarity, context, stride, beta = array(file, f"{case}_settings").tolist()
    strategy = FastVID(
        keep,
        int(segments),
        similarity,
        context,
        int(stride),
        beta,
        saliency="pooling_head",
        follow="paper" if paper else "released",
    )
    tokens = dataclasses.replace(tokens_of(file, case), summary=array(file, f"{case}_summary"))

    check(strategy.condense(tokens), file, case)
    assert tokens.summary is not None
    check_segments(tokens.summary, strategy, file, case)


@pytest.mark.parametrize(("file", "case"), named(r"(fastvidqwen\d+)_features"))
def test_temporal_patches(file: str, case: str) -> None:
    settings = array(file, f"{case}_settings").tolist()
    keep, segments, similarity, near, context, stride, beta = settings
    options = keep, int(segments), similarity, context, int(stride), beta
    strategy = FastVID(*options, near=near, follow="qwen")
    tokens = tokens_of(file, case)
    check(strategy.condense(tokens), file, case)
    check_segments(tokens.dense().mean(1), strategy, file, case)
