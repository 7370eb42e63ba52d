"""What the last row of every pass attends to, against full attention maps of the eager model."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from families import FAMILIES
from models import CELLS, llava_onevision, prompt

from tokenprune import attach
from tokenprune.runtime.recorder import Recorder
from tokenprune.strategy import DecodeStage, Pipeline

GREEDY = {"max_new_tokens": 4, "do_sample": False}


@pytest.fixture(scope="module")
def model():
    return llava_onevision(attention="eager")


def one_frame():
    """A stage that shows the tokens of one frame, another at every step; defined in the test, whose
    registry is as it was afterwards.
    """

    @dataclass(frozen=True)
    class OneFrame(DecodeStage, name="one_frame"):
        layer: int = 2

        def start(self):
            return 0

        def attend(self, view, state):
            return ~view.visual | (view.frame == state % view.frames), state + 1

    return OneFrame()


def _maps(model, inputs):
    """Rows of the eager model's maps, mean over heads: [l b s], of the prompt and of each step."""
    made = model.generate(**inputs, **GREEDY, output_attentions=True, return_dict_in_generate=True)
    return [torch.stack([part[:, :, -1].mean(1) for part in one]) for one in made.attentions]


def _by_frame(row, inputs, frames):
    """Sums of a row [l b s] over the tokens of each frame."""
    video = inputs["input_ids"] == 5
    found = []
    for sample, mask in enumerate(video):
        places = mask.nonzero().squeeze(-1)[: frames * CELLS]
        found.append(row[:, sample, places].unflatten(-1, (frames, CELLS)).sum(-1))
    return torch.stack(found)


def test_rows_are_those_of_the_eager_maps(model):
    """Two samples, one of them padded; the prompt, and every step behind it."""
    inputs, recorder = prompt(4, ((4, 5), (2, 3))), Recorder()
    expected = [_by_frame(row, inputs, 4) for row in _maps(model, inputs)]
    with attach(model, "none", recorder=recorder):
        model.generate(**inputs, **GREEDY)
    found = [recorder.prompt, *recorder.steps]
    assert len(found) == len(expected) == 4 and recorder.layers == (0, 1, 2, 3, 4)
    for row, right in zip(found, expected, strict=True):
        torch.testing.assert_close(row.mass, right, rtol=1e-4, atol=1e-6)


def test_shares_are_the_weights_of_dytok(model):
    inputs, recorder = prompt(4), Recorder()
    options = {"dytok.layers": (0, 4), "uniform.keep": 0.5}
    with attach(model, "uniform+dytok", options) as session:
        model(**inputs)
        weights = session.report[0].frame_weights
    with attach(model, "none", recorder=recorder):
        model(**inputs)
    share = recorder.prompt.share[0]
    torch.testing.assert_close(share.sum(-1), torch.ones(5))
    torch.testing.assert_close(share.mean(0), torch.tensor(weights))


def test_rows_that_a_step_hides_get_nothing(model):
    """Keys of hidden rows lie elsewhere in the cache: each is booked on its own frame."""
    inputs, recorder = prompt(3, ((4, 5), (2, 3))), Recorder()
    with attach(model, Pipeline((one_frame(),)), recorder=recorder) as session:
        model.generate(**inputs, **{**GREEDY, "max_new_tokens": 6})
    assert session.report[0].decode_changes == 4
    for number, step in enumerate(recorder.steps):
        above, shown = step.mass[:, 2:], number % 3
        others = [frame for frame in range(3) if frame != shown]
        assert (above[..., others] == 0).all() and (above[..., shown] > 0).all()
        assert (step.mass[:, :2] > 0).all(), "layers below the stage see all frames"


@pytest.mark.parametrize("offload", [False, True])
def test_unequal_numbers_of_hidden_rows_are_booked_on_their_frames(model, offload):
    """A sample that hides more is masked: what is masked belongs to nobody."""
    both = prompt(3, ((4, 5), (2, 3)))
    alone = {name: part[1:] for name, part in both.items()}
    options = {"dycoke.layer": 2, "dycoke.prune": 0.5, "dycoke.offload": offload}
    rows = []
    for inputs in (both, alone):
        recorder = Recorder()
        with attach(model, "dycoke", options, recorder=recorder):
            model.generate(**inputs, **GREEDY)
        rows.append([step.mass[-1] for step in recorder.steps])
    for batched, single in zip(*rows, strict=True):
        torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-6)


def test_a_prompt_that_is_pruned_half_way_is_read_in_each_layer_as_it_is_there(model):
    recorder = Recorder()
    with attach(
        model, "fastv", {"fastv.layer": 2, "fastv.drop": 0.9}, recorder=recorder
    ) as session:
        model(**prompt(4))
    kept = torch.tensor([len(cells) > 0 for cells in session.report[0].slots])
    mass = recorder.prompt.mass[0]
    assert ((mass[2:] > 0) == kept).all() and (mass[:2] > 0).all() and not kept.all()


def test_a_recorder_that_saw_nothing_says_so():
    with pytest.raises(LookupError, match="no video prompt"):
        _ = Recorder().prompt


def test_answers_are_the_same_with_a_recorder(model):
    inputs = prompt(4)
    with attach(model, "dycoke", {"dycoke.layer": 2}):
        plain = model.generate(**inputs, **GREEDY)
    with attach(model, "dycoke", {"dycoke.layer": 2}, recorder=Recorder()):
        assert torch.equal(model.generate(**inputs, **GREEDY), plain)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_read_as_allocators_read_it(kind):
    """A layer that sees a window of the prompt is left out by both."""
    family, recorder = FAMILIES[kind], Recorder()
    model, inputs = family.model(), family.prompt().inputs
    layers = [*range(model.config.get_text_config().num_hidden_layers)]
    with attach(model, "uniform+dytok", {"dytok.layers": (0, layers[-1])}) as session:
        model(**inputs)
        reports = [sample for sample in session.report.samples if sample is not None]
    with attach(model, "none", recorder=recorder):
        model(**inputs)
    assert set(recorder.layers) <= set(layers)
    first, found = reports[0].videos[0].frames, recorder.prompt.share.mean(1)[0]
    weights = torch.tensor(reports[0].frame_weights)
    assert len(reports[0].videos) == 1 and len(weights) == first
    torch.testing.assert_close(found[:first], weights, rtol=1e-4, atol=1e-6)
