"""`attach(..., images=True)`: images beside videos, or without any, are videos of one frame."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from families import FAMILIES, PICTURE, Ask
from family_stages import Shown, Thin, frames_of, thinned
from handbuilt import Removal
from models import IMAGE, llava_onevision
from random_models import internvl
from test_families import check, generated
from traces import remarks

from tokenprune import attach
from tokenprune.errors import StrategyError
from tokenprune.strategy import Pipeline

FAMILY = pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])


def asks(kind: str) -> list[Ask]:
    """A video behind an image, an image, a video, words."""
    one, other = FAMILIES[kind].clips
    return [Ask(4, (one,), 5, True), Ask(2, (), 4, True), Ask(1, (other,), 3), Ask(3, (), 2)]


def kept(prompt: Any, sample: int) -> Removal:
    """Two of three rows of each image and of each video."""
    real = prompt.inputs["attention_mask"][sample].bool()
    picture = prompt.inputs["input_ids"][sample, real] == IMAGE
    video = frames_of(prompt, sample) >= 0
    left = (~picture | thinned(picture)) & (~video | thinned(video))
    return Removal({0: left.nonzero().squeeze(-1)})


@FAMILY
@torch.no_grad()
def test_images_lose_their_rows_and_nothing_else(kind: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.build(), family.prompt(asks(kind))
    with remarks(), attach(model, Pipeline((Thin(),)), images=True) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, lambda number: kept(prompt, number))
    (first, second, third, words) = session.report.samples
    assert words is None
    assert first is not None and second is not None and third is not None
    assert first.videos[-1] == (1, PICTURE.height, PICTURE.width), "images are behind videos"
    assert second.videos == ((1, PICTURE.height, PICTURE.width),)
    assert len(third.videos) == 1
    assert second.kept == len(thinned(torch.ones(PICTURE.height * PICTURE.width).bool()).nonzero())


@FAMILY
@pytest.mark.parametrize("spec", ["visionzip", "prumerge", "random", "fastv", "visionzip+dytok"])
@torch.no_grad()
def test_a_batch_is_each_sample_alone(kind: str, spec: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.build(), family.prompt(asks(kind)[:3])
    with attach(model, spec, images=True) as session:
        batch = generated(model, prompt)[1]
        alone = dataclasses.replace(prompt, inputs=prompt.alone[0])
        one = generated(model, alone)[1]
    assert torch.allclose(batch[:1], one, atol=2e-5)
    assert session.reports[0][0].slots == session.reports[1][0].slots


@FAMILY
@torch.no_grad()
def test_what_stages_see_of_an_image_is_its_own(kind: str) -> None:
    """Features and tower signals of the image, also where a video has as many tokens."""
    family = FAMILIES[kind]
    same = family.clips[0]._replace(frames=1, height=PICTURE.height, width=PICTURE.width)
    model, shown = family.build(), Shown()
    prompt = family.prompt([Ask(4, (same,), 5, True)])
    with attach(model, Pipeline((shown,)), images=True):
        generated(model, prompt)
    video, image = shown.tokens[:2]
    body: Any = model.model
    features = body.get_image_features(
        prompt.inputs["pixel_values"], prompt.inputs["image_grid_thw"], return_dict=True
    ).pooler_output
    assert torch.allclose(image.features, features[0], atol=1e-5)
    assert not torch.allclose(video.features, features[0], atol=1e-5)


def test_families_whose_images_are_no_frames_of_one_size_refuse() -> None:
    with pytest.raises(StrategyError, match="images of llava_onevision come as tiles"):
        attach(llava_onevision(), "random", images=True)
    with pytest.raises(StrategyError, match="are the frames of its video for internvl"):
        attach(internvl(), "random", images=True)
