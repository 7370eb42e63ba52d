"""Padded, ragged batches are exact: whatever is registered gives each sample of a batch what it
gets alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import arbitrary
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import llava_onevision, prompt, shallow
from torch import Tensor

from tokenprune import attach, registry
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import StrategyError
from tokenprune.strategy import Allocator, Condenser, Pipeline

STEPS = 3
# shares are drawn from 0 to 1, and a budget of nothing is warned of
pytestmark = pytest.mark.filterwarnings("ignore:.* leaves no token of a video")

MODEL = llava_onevision()
ALLOCATORS = [name for name in registry.names() if issubclass(registry.get(name), Allocator)]
SPECS = sorted(set(registry.names()) - set(ALLOCATORS))
# what reads keys as they are turned by their positions: a forward pass counts padding on the left
TURNED = {"dart"}
TEXTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=2, max_size=4)


def pipelines(data: st.DataObject, spec: str) -> Pipeline:
    """`spec` with any options, alone or under any allocator that it may host."""
    kind = registry.get(spec)
    strategy: Any = data.draw(arbitrary.configured(kind))
    if shallow(spec):  # its layer lies above this model's
        strategy = replace(strategy, layer=2)
    if spec == "framefusion":  # merging may take one layer of five and is over, or it is refused
        strategy = replace(strategy, cost=0.2 + 0.8 * strategy.cost, enough=1.0)
    hosts = not issubclass(kind, Condenser) and getattr(kind, "reallocates", True)
    allocator = data.draw(st.sampled_from([None, *ALLOCATORS])) if hosts else None
    return Pipeline((strategy,) if allocator is None else (strategy, registry.get(allocator)()))


def only(inputs: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    real = inputs["attention_mask"][sample].bool()
    chosen = {
        name: inputs[name][sample : sample + 1, real] for name in ("input_ids", "attention_mask")
    }
    return {**chosen, "pixel_values_videos": inputs["pixel_values_videos"][sample : sample + 1]}


@torch.no_grad()
def forced(inputs: dict[str, Tensor], words: Tensor, placed: bool = False) -> list[Tensor]:
    """Logits of the prompt's last row, then behind each of `words`: a sampled word could hide a
    difference. `placed`: with positions that do not count padding, as `generate` gives them.
    """

    def positions(new: int) -> dict[str, Tensor]:
        return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -new:]} if placed else {}

    mask = inputs["attention_mask"]
    out = MODEL(**inputs, **positions(mask.shape[1]))
    found = [out.logits[:, -1]]
    for word in words.split(1, dim=1):
        mask = torch.cat([mask, torch.ones_like(word)], dim=1)
        cache = caching(MODEL, filled_cache(out))
        out = MODEL(input_ids=word, attention_mask=mask, **positions(1), **cache)
        found.append(out.logits[:, -1])
    return found


def facts(sample: Any) -> dict[str, Any]:
    return {name: value for name, value in sample.as_dict().items() if name != "frame_weights"}


def singles(pipeline: Pipeline, inputs: dict[str, Tensor], run: Any) -> list[tuple[Any, Any]]:
    """What `run` makes of each sample alone, and its report.

    Options without meaning for so few frames are skipped.
    """
    found = []
    try:
        with attach(MODEL, pipeline) as session:
            for sample in range(len(inputs["input_ids"])):
                found.append((run(sample, only(inputs, sample)), session.report[0]))
    except StrategyError:
        assume(False)
    return found


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=12)
@given(st.data())
def test_prefill_and_decoding_of_a_ragged_batch(spec: str, data: st.DataObject) -> None:
    pipeline, texts = pipelines(data, spec), data.draw(TEXTS)
    inputs = prompt(data.draw(st.integers(1, 7)), tuple(texts), seed=data.draw(st.integers(0, 99)))
    words = torch.randint(8, 64, (len(texts), STEPS), generator=torch.Generator().manual_seed(0))
    alone = singles(
        pipeline, inputs, lambda sample, single: forced(single, words[sample : sample + 1])
    )
    with attach(MODEL, pipeline) as session:
        batch = forced(inputs, words, spec in TURNED)
    for sample, (logits, report) in enumerate(alone):
        for step, (one, many) in enumerate(zip(logits, batch, strict=True)):
            assert torch.allclose(many[sample], one[0], atol=2e-4), (sample, step)
        assert facts(session.report[sample]) == facts(report)


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=6)
@given(st.data())
@torch.no_grad()
def test_a_right_padded_prefill_of_a_ragged_batch(spec: str, data: st.DataObject) -> None:
    pipeline, texts = pipelines(data, spec), data.draw(TEXTS)
    inputs = prompt(
        data.draw(st.integers(1, 7)), tuple(texts), seed=data.draw(st.integers(0, 99)), pad="right"
    )
    alone = singles(pipeline, inputs, lambda sample, single: MODEL(**single).logits[0])
    with attach(MODEL, pipeline):
        batch = MODEL(**inputs).logits
    for sample, (logits, _) in enumerate(alone):
        assert torch.allclose(batch[sample, : len(logits)], logits, atol=2e-4), sample
