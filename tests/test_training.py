"""The embedded model's training: batches, packed questions, growth, and going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.tiny import train
from experiments.tiny.bank import Bank, Revisits
from experiments.tiny.data import Steps, film
from experiments.tiny.grow import inherit
from experiments.tiny.heads import LONGEST, Heads
from experiments.tiny.labels import CELLS
from experiments.tiny.learner import Learner
from experiments.tiny.model import Scale, build, normalise, save
from experiments.tiny.pace import Pace
from experiments.tiny.recipe import Load, Recipe, kept
from experiments.tiny.text import PROMPT_START, tokenizer

SMALL = Scale(tower=(32, 32, 1), decoder=(32, 48, 2))
LARGE = Scale(tower=(32, 32, 1), decoder=(64, 80, 3))
RECIPE = Recipe({8: 0.5, 16: 0.5}, videos=2, questions=4, drop=0.5, opening=0, seed=3)


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    return Learner(tokenizer(), SMALL, Pace(lambda step: 0.0), tower=0.0)


@pytest.mark.parametrize("uneven", [False, True])
def test_dropout_keeps_the_order_and_the_number(uneven: bool) -> None:
    load = Load(frames=8, videos=3, questions=1, keep=0.4, uneven=uneven)
    stay = kept(load, seed=5)
    assert stay.shape == (3, round(0.4 * 8 * CELLS))
    assert (stay.diff(dim=1) > 0).all() and stay.min() >= 0 and stay.max() < 8 * CELLS
    assert not torch.equal(stay[0], stay[1])
    assert torch.equal(stay, kept(load, seed=5)) and not torch.equal(stay, kept(load, seed=6))


def test_steps_show_about_as_many_frames_whatever_their_length() -> None:
    recipe = Recipe({8: 1.0, 64: 1.0}, videos=12, questions=4, drop=0.5, opening=2, seed=0)
    loads = [recipe.load(step) for step in range(200)]
    assert [load.frames for load in loads[:2]] == [1, 1]
    assert {load.frames * load.videos for load in loads[2:]} == {12 * 16}
    missing = sum(load.keep < 1 for load in loads) / len(loads)
    assert 0.35 < missing < 0.65


def test_a_packed_question_is_seen_as_it_stands_alone(learner: Learner) -> None:
    tokens = tokenizer()
    batch = Steps(RECIPE, tokens)[0]
    whole = torch.arange(batch.length * CELLS).expand(len(batch.kept), -1)
    video = learner.look(batch.frames).flatten(1, 2)
    logits, _ = learner.answer(batch._replace(kept=whole), video)
    number = int(batch.segment[0].max())  # the last of the first video's questions
    places = batch.segment[0] == number
    prompt = f"{PROMPT_START}{'<video>' * (batch.length * CELLS + 1)}"
    alone = torch.cat([torch.tensor(tokens(prompt)["input_ids"]), batch.text[0, places]])
    stock = build(tokens, SMALL)
    stock.load_state_dict(learner.model.state_dict())
    pixels = normalise(batch.frames[:1])
    expected = stock(input_ids=alone[None], pixel_values_videos=pixels).logits[0]
    torch.testing.assert_close(logits[0, places], expected[-int(places.sum()) :])


def test_a_bank_shows_what_its_videos_are_asked_about(learner: Learner) -> None:
    bank = Bank()
    with torch.no_grad():
        bank.fill(learner.see, RECIPE, 2, torch.device("cpu"), workers=0)
    steps = Revisits(RECIPE, bank.things, tokenizer())
    batch = bank.show(steps[1])
    assert batch.frames.shape[:2] == (len(batch.kept), batch.length)
    videos = film(RECIPE.seed, 1 << 20, 16, batch.length)  # the bank's first
    row = int(steps[1].frames[0])
    with torch.no_grad():
        torch.testing.assert_close(batch.frames[0], learner.see(videos.frames[row, None])[0])
    assert torch.equal(batch.labels.course[0], videos.labels.course[row])


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_grown_model_computes_the_same(tmp_path: Path, noise: float) -> None:
    tokens = tokenizer()
    torch.manual_seed(1)
    parent = build(tokens, SMALL).eval()
    save(parent, tokens, tmp_path)
    large = build(tokens, LARGE).eval()
    inherit(large, tokens, tmp_path, noise=noise)
    text = f"{PROMPT_START}{'<video>' * (2 * CELLS + 1)}\nHow many shapes are there?"
    words = torch.tensor(tokens(text)["input_ids"])[None]
    pixels = normalise(film(0, 0, 1, 2).frames)
    with torch.no_grad():
        old = parent.float()(input_ids=words, pixel_values_videos=pixels).logits
        new = large(input_ids=words, pixel_values_videos=pixels).logits
    assert (new - old).abs().max() < (0.002 if noise == 0 else 0.1) * old.abs().max()


def test_a_tower_of_another_size_is_refused(tmp_path: Path) -> None:
    tokens = tokenizer()
    save(build(tokens, SMALL), tokens, tmp_path)
    wider = build(tokens, LARGE._replace(tower=(64, 32, 1)))
    with pytest.raises(ValueError, match="--eyes FOLDER"):
        inherit(wider, tokens, tmp_path)


def test_heads_are_kept_and_an_older_clock_is_shorter(tmp_path: Path) -> None:
    tokens, file = tokenizer(), tmp_path / "heads.safetensors"
    old, new = Heads(tokens, 32), Heads(tokens, 32)
    old.store(file)
    state = load_file(file)
    state["clock.weight"] = state["clock.weight"][:32].clone()
    state["clock.bias"] = state["clock.bias"][:32].clone()
    save_file(state, file)
    before = new.clock.weight.detach().clone()
    new.restore(file)
    assert torch.equal(new.place.weight, old.place.weight)
    assert torch.equal(new.clock.weight[:32], old.clock.weight[:32])
    assert torch.equal(new.clock.weight[32:], before[32:]) and len(before) == LONGEST


class StoppedError(Exception):
    """The training was interrupted."""


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train.SCALES, "tiny", SMALL)
    line = "out --opening 2 --steps 2 --every 2 --videos 2 --questions 2 --checks 1 --workers 0"
    options = train.arguments().parse_args([*line.split(), "--shares", "8:1"])
    train.run(tmp_path / "whole", options)

    def stop(self: Learner, *_: Any) -> None:
        if self.global_step == 3:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "on_train_batch_end", stop)
        with pytest.raises(StoppedError):
            train.run(tmp_path / "parts", options)
    train.run(tmp_path / "parts", options)
    whole, parts = (
        load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "parts/heads.safetensors").exists()
