"""What stages of every registered family are shown, as numbers known beforehand: frames, cells,
text, features, positions; several videos of a sample; and that nothing is left on the model.
"""

from __future__ import annotations

import copy
from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Ask, Family
from family_rows import TEXT, Clip
from family_stages import Seen, Shown, Thin, frames_of, left
from test_families import REGISTERED, cells, check, everywhere, generated, stages_of, told
from torch import Tensor
from traces import fingerprint

from tokenprune import attach
from tokenprune.strategy import Pipeline


@everywhere
@pytest.mark.parametrize("pad", ["left", "right"])
@torch.no_grad()
def test_stages_are_shown_every_row_as_what_it_is(kind: str, pad: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt(pad=pad)
    shown, seen = Shown(), Seen(family.layers[0])
    with attach(model, Pipeline((shown, seen))):
        model(**prompt.inputs)
    for number, (tokens, view) in enumerate(zip(shown.tokens, seen.views, strict=True)):
        (clip,), frame = prompt.clips[number], frames_of(prompt, number)
        assert (tokens.frames, tokens.cells) == (clip.frames, clip.height * clip.width)
        pairs = zip(tokens.frame.tolist(), tokens.slot.tolist(), strict=True)
        assert set(pairs) == cells(prompt, number, None)
        embeds = handbuilt.whole(model, family, prompt.alone[number]).embeds
        assert torch.allclose(tokens.features, embeds[frame != TEXT], atol=1e-5)
        assert torch.equal(view.frame, frame)
        assert torch.equal(view.position, torch.arange(len(frame)))
        assert view.frames == clip.frames
    assert len(shown.tokens) == len(prompt.videos())


@everywhere
@pytest.mark.parametrize("which", ["input", "input+early+late", "early+decode"])
def test_several_videos_of_a_sample(kind: str, which: str) -> None:
    """Each is compressed by itself, and the report counts their frames through."""
    family = FAMILIES[kind]
    one, other = family.clips
    asks = [Ask(2, (one, other), 5), Ask(3, (), 2), Ask(1, (other,), 4)]
    model, prompt = family.model(), family.prompt(asks)
    stages = stages_of(family, which)
    with attach(model, Pipeline(stages)) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, lambda number: left(prompt, number, stages))
    report, removal = session.report[0], left(prompt, 0, stages)
    last = removal.rows[max(removal.rows)]
    assert told(report.slots) == cells(prompt, 0, last)
    assert len(report.slots) == one.frames + other.frames
    assert report.full == sum(clip.frames * clip.height * clip.width for clip in prompt.clips[0])


@pytest.mark.filterwarnings("ignore:images are not compressed")
@pytest.mark.parametrize("which", ["input", "input+early+late", "early+decode"])
@pytest.mark.parametrize("kind", [kind for kind in REGISTERED if FAMILIES[kind].mrope])
def test_a_picture_beside_a_video_is_text(kind: str, which: str) -> None:
    family = FAMILIES[kind]
    one, other = family.clips
    asks = [Ask(2, (other,), 5, picture=True), Ask(3, (), 2, picture=True), Ask(1, (one,), 4)]
    model, prompt = family.model(), family.prompt(asks)
    stages = stages_of(family, which)
    with attach(model, Pipeline(stages)) as session:
        answer = generated(model, prompt)
    check(model, family, prompt, answer, lambda number: left(prompt, number, stages))
    assert session.report[0].full == other.frames * other.height * other.width


# positions of a prompt with a video of two frames of three cells, of which every third is gone;
# three axes
QWEN2 = {
    "time": [0, 1, 2, 3, 3, 4, 4, 6, 7, 8],
    "height": [0, 1, 2, 3, 3, 3, 3, 6, 7, 8],
    "width": [0, 1, 2, 3, 5, 3, 5, 6, 7, 8],
    "words": [9, 10, 11],
}
QWEN3 = {
    "time": [0, 1, 2, 3, 4, 5, 6, 7, 7, 10, 11, 12, 13, 14, 15, 15, 18, 19, 20, 21],
    "height": [0, 1, 2, 3, 4, 5, 6, 7, 7, 10, 11, 12, 13, 14, 15, 15, 18, 19, 20, 21],
    "width": [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21],
    "words": [22, 23, 24],
}
NUMBERS = {"qwen2_vl": QWEN2, "qwen2_5_vl": QWEN2, "qwen3_vl": QWEN3, "qwen3_vl_moe": QWEN3}


def positions(model: Any, family: Family, ask: Ask, stage: Any) -> list[Tensor]:
    """What the rotation of each pass gets, `[s]` or `[3 s]`: the prompt's, then three words'."""
    found: list[Tensor] = []

    def spy(module: Any, args: Any, kwargs: Any) -> None:
        found.append([*args, *kwargs.values()][1])

    rotation = model.model.language_model.rotary_emb
    with attach(model, Pipeline((stage,))):
        handle = rotation.register_forward_pre_hook(spy, with_kwargs=True)
        generated(model, family.prompt([ask]))
        handle.remove()
    passes = found[:: len(set(getattr(model.model.language_model.config, "layer_types", "1")))]
    return [each.squeeze(-2) for each in passes[:4]]


@everywhere
def test_positions_of_what_is_left_and_of_three_words(kind: str) -> None:
    family = FAMILIES[kind]
    clip = Clip(2, 1, 3) if family.mrope else family.clips[0]
    prompt, *words = positions(family.model(), family, Ask(2, (clip,), 2), Thin())
    if not family.mrope:
        length = len(left(family.prompt([Ask(2, (clip,), 2)]), 0, (Thin(),)).rows[0])
        assert prompt.tolist() == list(range(length)), "as if the shorter video had been sent"
        assert [word.tolist() for word in words] == [[length], [length + 1], [length + 2]]
        return
    expected = NUMBERS[kind]
    assert prompt.tolist() == [expected["time"], expected["height"], expected["width"]]
    assert [word.tolist() for word in words] == [[[place]] * 3 for place in expected["words"]]


@everywhere
@pytest.mark.parametrize("spec", ["visionzip+dytok", "uniform+fastv+dycoke"])
def test_nothing_is_left_after_the_block_or_an_exception(kind: str, spec: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    options = {"dycoke.merge": 0.0} if "dycoke" in spec else {}
    for name in ("fastv", "dycoke"):
        if name in spec:
            options[f"{name}.layer"] = family.layers[1]
    stock = generated(model, prompt)[1]  # transformers installs hooks of its own
    before = copy.deepcopy(fingerprint(model))
    with attach(model, spec, options):
        generated(model, prompt)
        assert fingerprint(model) != before
    assert fingerprint(model) == before

    def explode(*_: Any) -> None:
        raise ArithmeticError

    handle = model.model.language_model.layers[3].register_forward_pre_hook(explode)
    with pytest.raises(ArithmeticError), attach(model, spec, options):
        generated(model, prompt)
    handle.remove()
    assert fingerprint(model) == before
    assert torch.equal(generated(model, prompt)[1], stock)
