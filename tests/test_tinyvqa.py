"""TinyVQA: the generator keeps its promises, and the embedded model can really see."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from tokenprune import models, tasks
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, NEEDLE_FRAMES, SHAPES, SIZE, draw
from tokenprune.tasks.tinyvqa import FAMILIES, TinyVQA, ask, generator


def _task(samples: int = 84, frames: int = 16, seed: int = 0) -> tasks.Task:
    return tasks.build("tinyvqa", samples=samples, frames=frames, seed=seed)


def test_unknown_task_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown task 'tinyvqq'; known tasks: .*tinyvqa.*Did you mean 'tinyvqa'"):
        tasks.build("tinyvqq", samples=1, frames=16, seed=0)


@pytest.mark.parametrize("frames", [4, 8, 16, 32])
def test_samples_have_the_promised_form(frames: int) -> None:
    task = _task(samples=len(FAMILIES), frames=frames)
    samples = [task[i] for i in range(len(task))]
    assert [sample.category for sample in samples] == list(FAMILIES)
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.frames.shape == (frames, SIZE, SIZE, 3) and sample.frames.dtype == torch.uint8
        assert (sample.frames[1:] != sample.frames[:-1]).flatten(1).any(1).all(), "two equal neighbouring frames"


def test_length_bounds_and_default() -> None:
    assert len(_task(5)) == 5 and len(TinyVQA()) % len(FAMILIES) == 0
    with pytest.raises(IndexError, match="sample 5 of 5"):
        _task(5)[5]
    with pytest.raises(ValueError, match="at least 4"):
        _task(frames=3)
    with pytest.raises(ValueError, match="at least 1"):
        _task(samples=0)


def test_a_sample_is_a_function_of_seed_index_and_frames_alone() -> None:
    few, many = _task(9), _task(90)
    for index in (8, 3):  # order of access must not matter either
        a, b = few[index], many[index]
        assert (a.id, a.question, a.answer) == (b.id, b.question, b.answer) and torch.equal(a.frames, b.frames)
    assert not torch.equal(_task(9, seed=1)[3].frames, few[3].frames)


def test_no_test_stream_is_a_training_stream() -> None:
    seeds = {split: {generator(split, 0, i, 16).initial_seed() for i in range(500)} for split in ("train", "test")}
    assert all(seed % 2 == 0 for seed in seeds["train"]) and all(seed % 2 == 1 for seed in seeds["test"])
    assert all(seed < 2**32 for split in seeds.values() for seed in split)  # more bits would be ignored by PyTorch


def test_answers_are_balanced_given_the_question_family() -> None:
    task = _task(7 * 12)
    samples = [task[i] for i in range(len(task))]
    for family in ("existence", "colour", "shape", "count", "direction", "needle"):
        counts = Counter(sample.answer for sample in samples if sample.category == family)
        assert set(counts) == set(FAMILIES[family].balance) and len(set(counts.values())) == 1, (family, counts)
    former = [s.question.split("the ")[1].startswith(s.answer) for s in samples if s.category == "order"]
    assert sum(former) * 2 == len(former)


def test_absent_pairs_recombine_what_is_there() -> None:
    stream = generator("train", 0, 0, 16)
    for things in draw(stream, 64, 16).things():
        colours, shapes = {thing.colour for thing in things}, {thing.shape for thing in things}
        for question in FAMILIES["existence"].ask(things, 16):
            *_, colour, shape = question.text.rstrip("?").split()
            both = any((thing.colour, thing.shape) == (colour, shape) for thing in things)
            assert both == (question.answer == "yes")
            assert both or (colour in colours) + (shape in shapes) == (2 if len(things) > 1 else 1)


def test_scenes_are_answerable() -> None:
    scenes = draw(generator("train", 0, 1, 16), 256, 16)
    assert scenes.visible.any(1).sum(1).ge(1).all(), "an empty video"
    assert scenes.visible.sum(1)[scenes.needle].le(NEEDLE_FRAMES).all() and scenes.needle.any()
    for things in scenes.things():
        assert len({t.colour for t in things}) == len(things) == len({t.shape for t in things})
        assert {t.colour for t in things} <= set(COLOURS) and {t.shape for t in things} <= set(SHAPES)


def test_render_paints_what_the_scene_says() -> None:
    stream = generator("train", 0, 2, 8)
    scenes = draw(stream, 16, 8)
    video, owner = render(stream, scenes)
    red = scenes.colour == COLOURS.index("red")
    painted = (owner.unsqueeze(-1) == torch.arange(4)) & red[:, None, None, None]
    pixels = video[painted.any(-1)].float().mean(0)
    assert pixels[0] > 190 and pixels[1] < 80 and pixels[2] < 80
    seen = (owner.unsqueeze(-1) == torch.arange(4)).any((2, 3))  # [b f o]
    assert not (seen & ~scenes.visible).any()
    assert (seen == scenes.visible).float().mean() > 0.97  # the rest is covered by others


def test_training_questions_come_from_every_family() -> None:
    stream, choice = generator("train", 0, 3, 16), random.Random(0)
    asked = [q for things in draw(stream, 64, 16).things() for q in ask(things, 16, 8, choice, {"needle": 2.0})]
    assert {name for name, _ in asked} == set(FAMILIES) and len(asked) == 64 * 8
    assert all(question.balance in FAMILIES[name].balance for name, question in asked)


@pytest.mark.parametrize(("prediction", "score"), [("red", 1.0), (" Red.\n", 1.0), ("blue", 0.0), ("", 0.0)])
def test_score_is_exact_match_but_for_trifles(prediction: str, score: float) -> None:
    sample = tasks.Sample("x", "What colour is the ring?", "red", "colour", torch.zeros(1, 1, 1, 3, dtype=torch.uint8))
    assert _task(1).score(prediction, sample) == score


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown embedded model 'huge'; embedded models: .*tiny"):
        models.path("huge")


def test_the_embedded_model_is_small_and_genuine() -> None:
    from transformers import AutoConfig, AutoTokenizer

    folder = models.path("tiny")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5 * 2**20
    config, tokens = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert config.architectures == ["LlavaOnevisionForConditionalGeneration"]
    assert config.text_config.num_hidden_layers >= 6
    assert config.text_config.num_key_value_heads < config.text_config.num_attention_heads
    assert tokens.convert_tokens_to_ids(["<image>", "<video>"]) == [config.image_token_id, config.video_token_id]
    assert tokens.padding_side == "left" and tokens.eos_token == "<|im_end|>"
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What moves?"}]}]
    prompt = tokens.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user <video>\nWhat moves?<|im_end|><|im_start|>assistant\n"
    assert all(len(tokens(word)["input_ids"]) == 1 for word in (*COLOURS, *SHAPES))


def test_the_embedded_model_sees() -> None:
    """Stock `generate`, greedy: clearly above the chance of 0.31 that the families have on average."""
    from experiments.tiny.evaluate import scores

    result = scores(models.path("tiny"), samples=63, frames=16, seed=0)
    assert result["macro"] > 0.5, result
