"""Images, several videos and too many tokens: what a prompt brings is said or refused before it
goes wrong.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from models import CELLS, IMAGE, PAD, VIDEO, llava_onevision, prompt
from traces import remarks

from tokenprune import attach
from tokenprune.errors import LayoutError, UnsupportedGenerationError

GREEDY = {"max_new_tokens": 2, "do_sample": False}
VIDEO_ROWS = 4 * CELLS + 1


@pytest.fixture(scope="module")
def model():
    return llava_onevision()


def with_image(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same prompts, each behind one image."""
    samples = len(inputs["input_ids"])
    generator = torch.Generator().manual_seed(3)
    pixels, sizes = (
        torch.randn(samples, 2, 3, 48, 48, generator=generator),
        torch.tensor([[48, 48]] * samples),
    )
    with torch.no_grad():
        rows = len(model.model.get_image_features(pixels, sizes, return_dict=True).pooler_output[0])
    mask = torch.nn.functional.pad(inputs["attention_mask"], (rows, 0), value=1)
    ids = torch.nn.functional.pad(inputs["input_ids"], (rows, 0), value=IMAGE)
    return {
        **inputs,
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": pixels,
        "image_sizes": sizes,
    }


def image_only(model: Any) -> dict[str, torch.Tensor]:
    words = torch.randint(8, 64, (1, 6), generator=torch.Generator().manual_seed(1))
    return with_image(model, {"input_ids": words, "attention_mask": torch.ones_like(words)})


# images


def test_an_image_passes_uncompressed_and_the_session_says_so_once(model):
    inputs = image_only(model)
    stock = model.generate(**inputs, **GREEDY)
    for _ in range(2):
        with remarks() as said, attach(model, "fastv") as session:
            assert torch.equal(model.generate(**inputs, **GREEDY), stock)
            with torch.no_grad():
                model(**inputs)
        (only,) = said
        assert only.category is UserWarning
        assert "images are not compressed" in str(only.message)
        assert "tokenprune" in only.filename
        assert session.reports == []


def test_the_docs_say_that_images_pass():
    page = Path(__file__).parent.parent / "docs" / "concepts.md"
    assert "Images are not compressed" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", ["fastv", "visionzip+dytok"])
def test_beside_an_image_the_video_is_compressed_and_the_image_is_not(model, spec):
    inputs = with_image(model, prompt(4))
    kept_image = int((inputs["input_ids"] == IMAGE).sum())
    seen = []
    with remarks() as said, attach(model, spec) as session, torch.no_grad():
        handle = model.model.language_model.layers[4].register_forward_hook(
            lambda _, __, out: seen.append(out)
        )
        model(**inputs)
        handle.remove()
    assert ["images are not compressed" in str(each.message) for each in said] == [True]
    report = session.report[0]
    assert report.full == 4 * CELLS > report.layers[-1]
    text = inputs["input_ids"].shape[1] - 4 * CELLS
    assert kept_image < text
    assert seen[-1].shape[1] == text + report.layers[-1]


def test_what_the_tower_saw_of_an_image_is_not_taken_for_a_video(model):
    """Features that were encoded elsewhere say nothing of the tower, and the image before them
    belongs to others.
    """
    inputs = prompt(4)
    with torch.no_grad():
        encoded = model.model.get_video_features(
            inputs.pop("pixel_values_videos"), return_dict=True
        )
        with remarks(), attach(model, "visionzip"):
            model(**image_only(model))
            with pytest.raises(UnsupportedGenerationError, match="did not run inside the block"):
                model(**inputs, mm_encoder_outputs={"video": encoded})


@pytest.mark.parametrize("call", ["forward", "generate"])
def test_an_assistant_refuses_a_prompt_with_an_image(model, call):
    inputs, twin = with_image(model, prompt(6, ((4, 5), (2, 8)))), llava_onevision()
    run = model if call == "forward" else partial(model.generate, **GREEDY)
    refused = r"not its images.*leave out the images, or the assistant"
    with torch.no_grad(), remarks(), attach(model, "random+dytok", assistant=twin) as session:
        with pytest.raises(UnsupportedGenerationError, match=refused):
            run(**inputs)
        model(**prompt(6))  # goes on
    assert len(session.reports) == 1
    with remarks(), attach(model, "random+dytok") as session:
        run(**inputs)  # the model itself sees both
    assert len(session.reports) == 1


# several videos


def batch(rows: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    padded = [
        [PAD] * (longest - len(row)) + row if side == "left" else row + [PAD] * (longest - len(row))
        for row in rows
    ]
    ids = torch.tensor(padded)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


ONE, TEXT = [VIDEO] * VIDEO_ROWS, [9, 10, 11]
LAID_OUT = {
    "side by side": ([TEXT + ONE + ONE + TEXT], 2),
    "mixed with text": ([TEXT + ONE + TEXT + ONE + TEXT], 2),
    "three": ([ONE + ONE + TEXT + ONE], 3),
    "as many as a frame has cells, and one": ([TEXT + ONE * (CELLS + 1) + TEXT], CELLS + 1),
    "one sample with two and one with one": ([TEXT + ONE + ONE + TEXT, TEXT + ONE + TEXT], 3),
    "one sample with two and one with text": ([TEXT + ONE + ONE + TEXT, TEXT], 2),
    "two each": ([TEXT + ONE + ONE + TEXT, ONE + TEXT + ONE], 4),
}


@pytest.mark.parametrize("name", LAID_OUT)
@pytest.mark.parametrize("how", ["generate", "beams", "right-padded"])
def test_each_of_several_videos_has_its_own_budget(model, name, how):
    """As many tokens of each frame as if it were alone, whatever lies between the videos."""
    rows, videos = LAID_OUT[name]
    inputs = batch(rows, "right" if how == "right-padded" else "left")
    inputs["pixel_values_videos"] = torch.randn(
        videos, 4, 3, 48, 48, generator=torch.Generator().manual_seed(0)
    )
    beams = 2 if how == "beams" else 1
    with torch.no_grad(), attach(model, "visionzip", {"visionzip.keep": 3 / CELLS}) as session:
        if how == "right-padded":
            model(**inputs)
        else:
            model.generate(**inputs, **GREEDY, num_beams=beams)
    samples = session.report.samples[::beams]
    held = [row.count(VIDEO) // VIDEO_ROWS for row in rows]
    for number, sample in zip(held, samples, strict=True):
        if sample is None:
            assert number == 0
            continue
        assert sample.videos == ((4, 3, 3),) * number
        (stage,) = sample.stages
        assert (stage.before, stage.after) == ([CELLS] * 4 * number, [3] * 4 * number)
        assert [len(slots) for slots in sample.slots] == [3] * 4 * number


@pytest.mark.parametrize("spec", ["visionzip", "random", "fastv", "dycoke", "visionzip+dytok"])
def test_two_videos_in_a_sample_are_each_compressed_by_themselves(model, spec):
    """What is kept of the first does not depend on the second, which causal attention never sees;
    and each is found again in a batch."""
    inputs = batch([TEXT + ONE + TEXT + ONE + TEXT, TEXT + ONE + TEXT], "left")
    pixels = torch.randn(3, 4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    alone = batch([TEXT + ONE + TEXT + ONE + TEXT], "left")
    with torch.no_grad(), attach(model, spec) as session:
        both = model.generate(**inputs, pixel_values_videos=pixels, **GREEDY)
        one = model.generate(**alone, pixel_values_videos=pixels[:2], **GREEDY)
    assert torch.equal(both[:1], one)
    assert session.reports[0][0].as_dict() == session.reports[1][0].as_dict()
    assert session.report[0].full == 2 * 4 * CELLS
    assert session.report[0].layer_average_ratio < 1.0
    weights = session.report[0].frame_weights
    assert weights is None or len(weights) == 8, "a weight for each frame of each video"


def test_videos_that_do_not_fit_the_placeholders_are_named(model):
    """The stock model counts values of the whole batch, which may be right by chance."""
    inputs = batch([TEXT + ONE[1:] + TEXT, TEXT + ONE + ONE[:1]], "left")
    inputs["pixel_values_videos"] = torch.randn(2, 4, 3, 48, 48)
    message = r"hold \[36, 38\] video placeholders, their videos need 37 \(4 frames of 9 tokens\)"
    with pytest.raises(LayoutError, match=message), attach(model, "random"):
        model(**inputs)


def test_one_video_per_sample_is_not_several(model):
    inputs = batch([TEXT + ONE + TEXT, ONE + TEXT, TEXT], "left")
    inputs["pixel_values_videos"] = torch.randn(2, 4, 3, 48, 48)
    for settings in ({}, {"num_beams": 2}):
        with attach(model, "random") as session:
            model.generate(**inputs, **GREEDY, **settings)
        kept = session.report.samples[:: settings.get("num_beams", 1)]
        assert [sample is not None for sample in kept] == [True, True, False]


# more tokens than the context


@pytest.fixture
def short():
    """A model whose context holds a prompt of 3 frames and 9 words, but not of 4 frames."""
    model = llava_onevision()
    model.config.text_config.max_position_embeddings = 9 + VIDEO_ROWS - 1
    return model


@pytest.mark.parametrize(
    ("spec", "frames", "rows"),
    [
        ("none", 3, None),
        ("none", 4, 46),
        ("none", 9, 91),
        ("fastv", 4, 46),
        ("random", 4, None),
        ("random", 20, 55),
    ],
)
def test_more_tokens_than_the_context_holds_are_remarked_on(short, spec, frames, rows):
    """Counted where they enter the language model: a prefill stage comes too late, a vision stage
    does not.
    """
    with remarks() as said, torch.no_grad(), attach(short, spec):
        short(**prompt(frames))
        short(**prompt(frames, ((6, 3),)))
    if rows is None:
        assert said == []
        return
    (only,) = said
    assert f"the prompt has {rows} tokens, but the model's context holds 45 positions" in str(
        only.message
    )
    assert "fewer frames" in str(only.message)
    assert "tokenprune" in only.filename


def test_padding_is_not_counted(short):
    inputs = prompt(3, ((4, 5),))
    padded = {
        name: torch.nn.functional.pad(inputs[name], (40, 0))
        for name in ("input_ids", "attention_mask")
    }
    with torch.no_grad(), attach(short, "none"):
        short(**padded, pixel_values_videos=inputs["pixel_values_videos"])


def test_a_guide_that_reads_more_than_its_context_holds_is_remarked_on(short):
    inputs = prompt(4)
    other = llava_onevision(1)
    for model, assistant in ((short, None), (other, short)):
        with remarks() as said, torch.no_grad(), attach(model, "random+dytok", assistant=assistant):
            model(**inputs)
        (only,) = said
        assert (
            "the prompt that the guide reads has 46 tokens, but the model's context holds 45"
            in str(only.message)
        )
