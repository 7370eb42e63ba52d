"""Decoding costs no more than the stock model's: operations of a step, and what hangs on layers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tokenprune import attach
from tokenprune.bench import steps, toy
from tokenprune.compat import caching, filled_cache

# what a caller may pass besides the word and the cache
GIVEN = [(), ("position_ids",), ("position_ids", "attention_mask")]
WORD = torch.tensor([[9]])


@cache
def stock(gives: tuple[str, ...]) -> float:
    return steps.counted(None, gives=gives)


@pytest.mark.parametrize("gives", GIVEN, ids=lambda gives: " ".join(gives) or "nothing")
@pytest.mark.parametrize("name", steps.BARS)
def test_a_step_dispatches_hardly_more_than_the_stock_model_s(
    name: str, gives: tuple[str, ...]
) -> None:
    bar = steps.BARS[name]
    assert steps.counted(bar.spec, bar.options, gives) - stock(gives) <= bar.operations


def test_renewing_a_selection_costs_as_much_in_each_layer() -> None:
    """Swaps are worked out once for all layers, and done by a few operations in each."""
    always = steps.counted("dycoke", {"dycoke.threshold": 2.0})
    held = steps.counted("dycoke", {"dycoke.threshold": -1.0})
    assert 0 < always - held <= 6 * toy.DEPTH + 60


def hooked(model: Any) -> list[int]:
    """The layers that have a hook."""
    layers = model.model.language_model.layers
    return [number for number, layer in enumerate(layers) if layer._forward_pre_hooks]


@pytest.mark.parametrize(
    ("spec", "layers"), [("visionzip", []), ("fastv", []), ("pyramiddrop", []), ("dycoke", [3])]
)
@torch.no_grad()
def test_hooks_of_layers_are_gone_once_the_prompt_has_passed(spec: str, layers: list[int]) -> None:
    model, seen = toy.twin(), []
    config = model.config.text_config
    own = config._attn_implementation
    last = model.model.language_model.layers[-1]
    # at the end of a pass, while what it needs still hangs
    handle = last.register_forward_hook(lambda *_: seen.append(hooked(model)))
    with attach(model, spec):
        cache = filled_cache(model(**toy.prompt(), use_cache=True))
        for _ in range(2):
            model(input_ids=WORD, **caching(model, cache))
        assert hooked(model) == layers
        assert config._attn_implementation == own
    handle.remove()
    assert seen[1:] == [layers] * 2
    assert (len(seen[0]) > 1) is (spec in ("fastv", "pyramiddrop"))
    assert not hooked(model)
    assert config._attn_implementation == own


@torch.no_grad()
def test_a_pass_that_fails_leaves_nothing_hanging() -> None:
    model = toy.twin()

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with attach(model, "fastv"):
        own = model.config.text_config._attn_implementation
        handle = model.model.language_model.layers[5].register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            model(**toy.prompt())
        handle.remove()
        assert not hooked(model)
        assert model.config.text_config._attn_implementation == own
        model(**toy.prompt())


@torch.no_grad()
def test_our_hook_comes_first() -> None:
    """Whatever else hangs on a layer sees the rows that the layer gets."""
    model, rows = toy.twin(), []
    layer = model.model.language_model.layers[4]
    handle = layer.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[1]))
    model(**toy.prompt())
    with attach(model, "fastv"):
        model(**toy.prompt())
    handle.remove()
    assert rows[1] < rows[0]
