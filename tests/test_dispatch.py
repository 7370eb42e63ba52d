"""What a pipeline costs in launches and waits: counted over one prefill of a narrow, deep model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenprune import registry
from tokenprune.bench import toy
from tokenprune.bench.dispatch import Dispatched

# which miss their bar of operations, all by acting several times: two clusterings of which the
# second needs the first, three events in three layers, and three mergers
OVER = {"prunevid", "sparsevlm", "framefusion"}
# and of reads: each merger decides how many rows the next one gets
WAITING = {"framefusion"}

READS: dict[str, Any] = {
    "item": lambda x: x.sum().item(),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool((x > 0).any()),
    "condition": lambda x: 1 if x[0] > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "to by name": lambda x: x.to(device="cpu"),
    "nonzero": lambda x: x.nonzero(),
    "nonzero as tuple": lambda x: x.nonzero(as_tuple=True),
    "one-sided where": lambda x: torch.where(x > 1),
    "argwhere": lambda x: torch.argwhere(x),
    "masked_select": lambda x: x.masked_select(x > 1),
    "a mask as index": lambda x: x[x > 1],
    "a mask as one of two indices": lambda x: x.unsqueeze(0)[0, x > 1],
    "writing at a mask": lambda x: x.clone().__setitem__(x > 1, x[:1]),
    "repeats": lambda x: x.repeat_interleave(x),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "bincount": lambda x: x.bincount(),
    "equal": lambda x: torch.equal(x, x + 1),
}
NOT: dict[str, Any] = {
    "repeats of known size": lambda x: x.repeat_interleave(x, output_size=6),
    "an index": lambda x: x[x],
    "masked_fill": lambda x: x.masked_fill(x > 1, 0),
    "where": lambda x: torch.where(x > 1, x, 0),
    "another type": lambda x: x.to(torch.float32),
    "another device": lambda x: x.to("meta"),
    "a sort": lambda x: x.sort(stable=True).values,
}


@pytest.mark.parametrize("name", READS)
def test_every_way_to_read_is_counted_once(name: str) -> None:
    x = torch.tensor([0, 1, 2, 2, 1, 0])
    with Dispatched() as counted:
        READS[name](x)
    assert counted.number("reads") == 1


@pytest.mark.parametrize("name", NOT)
def test_what_does_not_read_is_not(name: str) -> None:
    x = torch.tensor([0, 1, 2, 2, 1, 0])
    with Dispatched() as counted:
        NOT[name](x)
    assert counted.number("reads") == 0
    assert counted.number("operations") > 0


def test_views_are_operations_and_causes_are_lines() -> None:
    x = torch.ones(6)
    with Dispatched() as counted:
        y = x.view(2, 3)
        assert (y.T @ y).shape == (3, 3)
    assert counted.number("operations") == 3
    assert {cause.owner for cause in counted.operations} == {"ours"}
    assert all("test_dispatch.py:" in cause.where for cause in counted.operations)


def test_the_model_s_own_are_the_model_s() -> None:
    assert toy.stock().number("operations", "ours") == toy.stock().number("reads", "ours") == 0
    per_layer = toy.stock().number("operations") / toy.DEPTH
    assert per_layer > 40, "whole layers are counted"


def test_a_guide_s_layers_are_counted_apart() -> None:
    counted = toy.prefill("dytok+visionzip", {"dytok.layers": (20, 20)})
    assert counted.number("operations", "guide") > 20 * 40
    assert toy.overhead(counted).operations < 20 * 40
    assert toy.prefill("visionzip").number("operations", "guide") == 0


def specs(over: set[str], strict: bool) -> list[Any]:
    """A pipeline of every strategy; those that are `over` a bar are expected to fail."""
    missed = pytest.mark.xfail(strict=strict)
    names = registry.names()
    return [pytest.param(toy.alone(one), marks=[missed] * (one in over)) for one in names]


@pytest.mark.parametrize("spec", specs(OVER, strict=toy.COMPARABLE))
def test_a_prefill_dispatches_no_more_than_it_may(spec: str) -> None:
    found, most = toy.overhead(toy.prefill(spec)), toy.bar(registry.build(spec))
    assert found.operations <= most.operations or not toy.COMPARABLE


@pytest.mark.parametrize("spec", specs(WAITING, strict=True))
def test_a_prefill_waits_no_more_than_it_may(spec: str) -> None:
    counted = toy.prefill(spec)
    found, most = toy.overhead(counted), toy.bar(registry.build(spec))
    assert found.reads <= most.reads, [str(c) for c in counted.reads if c.owner == "ours"]
