"""Every registered family in batches: what keeps all is the stock model, a sample of any batch is
itself alone, several answers to one prompt are answers to the same.
"""

from __future__ import annotations

from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Ask, Family, Prompt
from family_rows import Inputs
from family_stages import left
from test_families import STEPS, check, everywhere, generated, kernels, stages_of

from tokenprune import attach, registry
from tokenprune.errors import StrategyError
from tokenprune.strategy import Allocator, Pipeline, TowerStage

GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
ALLOCATORS = [name for name in registry.names() if issubclass(registry.get(name), Allocator)]
HOSTS = [name for name in registry.names() if name not in ALLOCATORS]
# what works inside the tower leaves as many tokens as there were, and takes frame by frame
INSIDE = [name for name in HOSTS if issubclass(registry.get(name), TowerStage)]
FRAMEWISE = ["llava_onevision", "llava_video", "llava_next_video", "video_llava"]
BEHIND = [name for name in HOSTS if name not in INSIDE]
SPECS = [*BEHIND, *(f"dycoke+{name}" for name in ALLOCATORS), "visionzip+fastv"]


# what needs layers that see everything
REFUSED = {
    "prunevid": "layers of gemma3 with a sliding window have forg",
    "framefusion": "looks back 12 rows only and gives farther frames no attention",
}


def deep(family: Family, spec: str) -> dict[str, Any]:
    """Options by which stages within the language model act before a layer that is full."""
    layer = family.layers[1]
    parts = [(name, registry.get(name)) for name in spec.split("+")]
    options: dict[str, Any] = {
        f"{name}.layer": layer for name, kind in parts if "layer" in vars(kind)
    }
    if spec == "tome":
        options["tome.r"] = 2  # as few as the smallest frames can lose
    if "pyramiddrop" in spec and family.layers[0] > 1:  # the layer below has to look back far
        options["pyramiddrop.stages"] = 2
    if "framefusion" in spec:  # of five layers, merging may take two
        options |= {"framefusion.cost": 0.6, "framefusion.enough": 0.3}
    if "sparsevlm" in spec and family.layers[0] > 1:
        options |= {"sparsevlm.keep": [0.5], "sparsevlm.after": [20]}  # before layer 4 of 5
    return options


@everywhere
@kernels
def test_none_is_stock_token_for_token(kind: str, attention: str) -> None:
    model, prompt = FAMILIES[kind].model(attention), FAMILIES[kind].prompt()
    stock = generated(model, prompt)
    with attach(model, "none") as session:
        found = generated(model, prompt)
    assert torch.equal(found[0], stock[0])
    assert torch.equal(found[1], stock[1])
    assert session.report[0].layer_average_ratio == 1.0
    again = generated(model, prompt)
    assert torch.equal(again[1], stock[1]), "after the block"


@everywhere
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("fastv+dytok", {"fastv.drop": 0.0}),
        ("dycoke", {"dycoke.merge": 0.0, "dycoke.prune": 0.0}),
    ],
)
def test_what_drops_nothing_changes_no_logit(kind: str, spec: str, options: dict[str, Any]) -> None:
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    stock = generated(model, prompt)
    with attach(model, spec, deep(family, spec) | options):
        found = generated(model, prompt)
    assert torch.equal(found[0], stock[0])
    assert torch.allclose(found[1], stock[1], atol=2e-5)


def facts(report: Any) -> dict[str, Any]:
    return {name: value for name, value in report.as_dict().items() if name != "frame_weights"}


@everywhere
@pytest.mark.parametrize("spec", SPECS)
def test_a_sample_of_a_batch_is_itself_alone(kind: str, spec: str) -> None:
    """Under every strategy there is behind the tower."""
    family = FAMILIES[kind]
    if kind == "gemma3" and (refusal := REFUSED.get(spec)):
        with pytest.raises(StrategyError, match=refusal):
            attach(family.model(), spec, deep(family, spec))
        return
    report = each_is_itself(family, spec)
    assert report[0].layer_average_ratio < 1.0
    with pytest.raises(LookupError, match="holds no video"):
        report[2]


@pytest.mark.parametrize("kind", FRAMEWISE)
@pytest.mark.parametrize("spec", INSIDE)
def test_so_it_is_inside_the_tower(kind: str, spec: str) -> None:
    report = each_is_itself(FAMILIES[kind], spec)
    assert report[0].layer_average_ratio == 1.0
    assert report[0].tower is not None


def each_is_itself(family: Family, spec: str) -> Any:
    """A batch gives each of its samples what it gets alone; the batch's report."""
    model, prompt = family.model(), family.prompt()
    with attach(model, spec, deep(family, spec)) as session:
        words, found = generated(model, prompt, max_new_tokens=2)
        report = session.report
        for number in prompt.videos():  # words alone are what the hand-built tests compare
            one = generated(model, alone(prompt, prompt.alone[number]), max_new_tokens=2)
            assert torch.equal(one[0][0], words[number]), number
            assert torch.allclose(one[1][0], found[number], atol=2e-5), number
            assert facts(session.report[0]) == facts(report[number]), number
    return report


def alone(prompt: Prompt, inputs: Inputs) -> Prompt:
    """One sample of a prompt, for functions that take a prompt."""
    return Prompt(inputs, prompt.frame[:1], prompt.slot[:1], prompt.clips[:1], (inputs,))


@everywhere
@pytest.mark.parametrize("spec", ["fastv", "visionzip+dytok"])
@torch.no_grad()
def test_padding_on_the_right_changes_nothing(kind: str, spec: str) -> None:
    """In a single forward pass, which alone can take it."""
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt(pad="right")
    with attach(model, spec, deep(family, spec)):
        batch = model(**prompt.inputs).logits
        for number, inputs in enumerate(prompt.alone):
            one = model(**inputs).logits[0]
            assert torch.allclose(batch[number, : len(one)], one, atol=2e-5), number


@everywhere
@pytest.mark.parametrize("which", ["early", "input+early+late"])
def test_several_answers_to_one_prompt(kind: str, which: str) -> None:
    """Drawn ones: each is the hand-built one after its own words."""
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt()
    stages = stages_of(family, which)
    torch.manual_seed(0)
    with attach(model, Pipeline(stages)) as session:
        words, found = generated(model, prompt, do_sample=True, num_return_sequences=2)
    assert len(session.report) == 6
    for number, row in enumerate(words):
        sample = handbuilt.whole(model, family, prompt.alone[number // 2])
        expected = handbuilt.logits(model, sample, row, left(prompt, number // 2, stages))
        assert torch.allclose(found[number], expected, atol=2e-5), number
    assert not torch.equal(words[::2], words[1::2]), "there is something to mix up"


@everywhere
def test_beams(kind: str) -> None:
    family, spec = FAMILIES[kind], "visionzip+fastv"
    model, prompt = family.model(), family.prompt()
    with attach(model, spec, deep(family, spec)) as session:
        beams = model.generate(**prompt.inputs, **GREEDY, num_beams=2)
        assert len(session.report) == 6
        for number, inputs in enumerate(prompt.alone):
            one = model.generate(**inputs, **GREEDY, num_beams=2)
            assert torch.equal(beams[number, -STEPS:], one[0, -STEPS:]), number


@everywhere
@pytest.mark.parametrize(
    ("which", "cached"), [("input", True), ("input", False), ("early", True), ("late+decode", True)]
)
def test_one_video_and_no_padding(kind: str, which: str, cached: bool) -> None:
    """`generate` drops a mask of ones, so there is none; perhaps no cache either."""
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt([Ask(3, (family.clips[1],), 4)])
    stages = stages_of(family, which)
    with attach(model, Pipeline(stages)):
        answer = generated(model, prompt, use_cache=cached)
    check(model, family, prompt, answer, lambda number: left(prompt, number, stages))
