"""What stages and guides of every registered family read in the language model, against full
attention maps of the stock model; and what is refused because it cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Ask
from family_rows import TEXT
from family_stages import Early, Late, Seen, Thin, frames_of, left
from test_families import everywhere, generated
from test_families_batches import deep, facts
from torch import Tensor

from tokenprune import attach
from tokenprune.compat import caching, filled_cache
from tokenprune.strategy import Allocator, Pipeline
from tokenprune.tokens import Probe


@everywhere
@pytest.mark.parametrize(("attention", "which"), [("sdpa", 0), ("eager", 1)])
@torch.no_grad()
def test_a_layer_stage_reads_the_last_row_of_the_layer_below(
    kind: str, attention: str, which: int
) -> None:
    family = FAMILIES[kind]
    layer = family.layers[which]
    model, prompt, seen = family.model(attention), family.prompt(), Seen(layer)
    with attach(model, Pipeline((seen,))):
        model(**prompt.inputs)
    maps = family.model("eager")(**prompt.inputs, output_attentions=True).attentions
    for number, view in zip(prompt.videos(), seen.views, strict=True):
        real = prompt.inputs["attention_mask"][number].bool()
        expected = maps[layer - 1][number, :, -1].mean(0)[real]
        assert torch.allclose(view.attention, expected, atol=1e-5), number


@dataclass(frozen=True)
class Asked(Allocator):
    """Weighs all frames alike, and writes down what it was told of every layer."""

    told: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list, hash=False)

    def weigh(self, probe: Probe) -> Tensor:
        queries, keys = probe.last_row(range(probe.depth))  # of full layers
        self.told.append((queries, keys, probe.frame))
        return torch.ones(probe.frames)


@everywhere
@torch.no_grad()
def test_a_guide_reads_the_uncompressed_prompt(kind: str) -> None:
    """Its queries and keys give the attention maps of the stock model, in every full layer."""
    family = FAMILIES[kind]
    prompt, asked = family.prompt(), Asked()
    model = family.model()
    with attach(model, Pipeline((Thin(), asked))):
        model(**prompt.inputs)
    stock = family.model("eager")
    maps = stock(**prompt.inputs, output_attentions=True).attentions
    full = full_layers(stock)
    for number, (queries, keys, frame) in zip(prompt.videos(), asked.told, strict=True):
        rows = frames_of(prompt, number)
        assert torch.equal(frame, rows[rows != TEXT])
        visual = prompt.frame[number] != TEXT
        for layer, query, key in zip(full, queries, keys, strict=True):
            key = key.repeat_interleave(len(query) // len(key), dim=0)
            scores = torch.einsum("he,hne->hn", query, key) * key.shape[-1] ** -0.5
            attention = maps[layer][number, :, -1, visual]
            expected = attention / attention.sum(-1, keepdim=True)
            assert torch.allclose(scores.softmax(-1), expected, atol=1e-5), (number, layer)


def full_layers(model: Any) -> list[int]:
    text = model.model.language_model
    kinds = getattr(text.config, "layer_types", None) or ["full_attention"] * len(text.layers)
    return [number for number, kind in enumerate(kinds) if kind == "full_attention"]


@everywhere
@pytest.mark.parametrize("spec", ["fastv+dytok", "visionzip+dytok"])
def test_an_assistant_with_the_same_weights_weighs_the_same(kind: str, spec: str) -> None:
    """It looks at the video with its own tower."""
    family = FAMILIES[kind]
    model, twin, prompt = family.model(), family.build(), family.prompt()
    options = deep(family, spec)
    with attach(model, spec, options) as session:
        alone = generated(model, prompt)
        own = session.report
    with attach(model, spec, options, assistant=twin) as session:
        assisted = generated(model, prompt)
    assert torch.equal(assisted[0], alone[0])
    assert torch.allclose(assisted[1], alone[1], atol=2e-5)
    for number in prompt.videos():
        assert facts(session.report[number]) == facts(own[number])
        weights = torch.tensor(own[number].frame_weights)
        assert torch.allclose(
            torch.tensor(session.report[number].frame_weights), weights, atol=1e-5
        )


@everywhere
def test_an_assistant_of_other_weights_is_listened_to(kind: str) -> None:
    family = FAMILIES[kind]
    model, other, prompt = family.model(), family.model(seed=1), family.prompt()
    weights = []
    for assistant in (None, other):
        with attach(model, "random+dytok", assistant=assistant) as session:
            generated(model, prompt)
        weights.append(session.report[0].frame_weights)
    with attach(other, "random+dytok") as session:
        generated(other, prompt)
    expected = torch.tensor(session.report[0].frame_weights)
    assert torch.allclose(torch.tensor(weights[1]), expected, atol=1e-5)
    assert not torch.allclose(torch.tensor(weights[0]), expected, atol=1e-3)


@everywhere
@pytest.mark.parametrize("stages", [(Thin(),), (Early(2),), (Thin(), Late(2))])
@torch.no_grad()
def test_steps_of_forward_without_generate(kind: str, stages: Sequence[Any]) -> None:
    """They find their positions by themselves: behind the largest one where they have axes."""
    family = FAMILIES[kind]
    model, prompt = family.model(), family.prompt([Ask(3, (family.clips[1],), 4)])
    words = torch.tensor([9, 60, 33])
    with attach(model, Pipeline(tuple(stages))):
        out = model(**prompt.inputs)
        found = [out.logits[0, -1]]
        for word in words:
            out = model(input_ids=word[None, None], **caching(model, filled_cache(out)))
            found.append(out.logits[0, -1])
    sample = handbuilt.whole(model, family, prompt.alone[0])
    places = None if sample.positions is None else sample.farthest + 1 + torch.arange(3)
    expected = handbuilt.logits(model, sample, words, left(prompt, 0, stages), places)
    assert torch.allclose(torch.stack(found), expected, atol=2e-5)
