"""ToMe against outputs of the authors' code: matching, schedules, and whole blocks by our hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_cases import array, named
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from tokenprune.adapters.vision import TowerBlock
from tokenprune.bipartite import match
from tokenprune.runtime.tapping import Taps, tapped
from tokenprune.runtime.tower_merging import Merge, Merging
from tokenprune.strategies.tome import ToMe, schedule
from tokenprune.strategy import TowerMerger


def number(file: str, name: str) -> int:
    return int(array(file, name))


@pytest.mark.parametrize(("file", "case"), named(r"m(\d+)_metric", of="tome"))
def test_matching_and_merging(file: str, case: str) -> None:
    metric, sizes = array(file, f"m{case}_metric"), array(file, f"m{case}_size").flatten()
    expected = array(file, f"m{case}_source").long()
    group = match(metric, number(file, f"m{case}_r"), number(file, f"m{case}_class_token"))
    members = torch.nn.functional.one_hot(group).mT
    assert torch.equal(members, expected)
    merge = Merge(group, sizes, expected.shape[1])
    torch.testing.assert_close(merge.sizes, array(file, f"m{case}_out_size").flatten())
    made = merge.mean(array(file, f"m{case}_x"))
    torch.testing.assert_close(made, array(file, f"m{case}_out"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("file", "case"), named(r"s(\d+)_args", of="tome"))
def test_schedule(file: str, case: str) -> None:
    layers, r, inflection = array(file, f"s{case}_args").tolist()
    expected = array(file, f"s{case}_schedule").tolist()
    assert list(schedule(int(layers), int(r), inflection)) == expected


class AsWritten(TowerMerger):
    """The released matching, with the numbers of one golden case."""

    name = "as_written"

    def __init__(self, numbers: tuple[int, ...], proportional: bool) -> None:
        self.numbers, self.proportional = numbers, proportional

    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        return self.numbers

    def group(self, keys: Tensor, remove: int, first: int) -> Tensor:
        return ToMe().group(keys, remove, first)


def encoder(file: str, case: str, width: int, heads: int, layers: int) -> Any:
    """Stock SigLIP layers with the weights of a golden stack."""
    config = SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        vision_use_head=False,
    )
    made: Any = SiglipVisionModel._from_config(config, attn_implementation="sdpa").encoder.eval()
    made.requires_grad_(False)
    for layer, block in enumerate(made.layers):
        parts = array(file, f"b{case}_qkv{layer}").chunk(3)
        names = (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
        linear = [*zip(names, parts, strict=True)]
        linear += [
            (block.self_attn.out_proj, array(file, f"b{case}_proj{layer}")),
            (block.mlp.fc1, array(file, f"b{case}_fc1{layer}")),
            (block.mlp.fc2, array(file, f"b{case}_fc2{layer}")),
        ]
        for module, weight in linear:
            module.weight.copy_(weight)
            module.bias.zero_()
    return made


@pytest.mark.parametrize(("file", "case"), named(r"b(\d+)_x", of="tome"))
def test_blocks(file: str, case: str) -> None:
    heads, first, proportional, layers = array(file, f"b{case}_meta").tolist()
    x, numbers = array(file, f"b{case}_x"), array(file, f"b{case}_r").tolist()
    stack = encoder(file, case, x.shape[-1], heads, layers)
    blocks = [TowerBlock(one, one.self_attn, one.layer_norm2, one.mlp) for one in stack.layers]
    stage = AsWritten(tuple(numbers), bool(proportional))
    call = Merging(stage, blocks, len(x), x.shape[1], first)
    seen: list[Tensor] = []
    handles = Merging.hooks(blocks, lambda: call)
    handles += [one.layer.register_forward_hook(lambda *a: seen.append(a[2])) for one in blocks]
    taps = Taps()
    taps.update(call.taps())
    with tapped([stack.config], taps) as reading, reading.under_way():
        stack(inputs_embeds=x)
    for handle in handles:
        handle.remove()
    for layer, made in enumerate(seen):
        expected = array(file, f"b{case}_out{layer}")
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=2e-4)
    source = array(file, f"b{case}_source").long()
    rows = torch.arange(source.shape[1], dtype=x.dtype).expand(len(x), -1).unsqueeze(-1)
    standing = call.whole(layers, rows).squeeze(-1).long()
    assert torch.equal(torch.nn.functional.one_hot(standing).mT, source)
