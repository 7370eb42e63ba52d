"""What a stage inside the tower saves, counted: beside torch's own counter, to the last product."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES
from test_tower_stages import still
from torch.utils.flop_counter import FlopCounterMode

from tokenprune.adapters import adapt
from tokenprune.bench.towers import Tower, own_grid
from tokenprune.runtime.session import attach
from tokenprune.runtime.tower_report import TowerLayer

CASES = [
    ("tome", {"tome.r": 2}),
    ("tome", {"tome.r": 2, "tome.inflection": -1.0}),
    ("reuse", {}),
    ("reuse", {"reuse.threshold": 9.0}),
]
# their towers are a tower's blocks and an embedding, as published
NAMES = ["llava_onevision", "llava_next_video", "internvl", "gemma3"]


def multiplied(model: Any, inputs: Any) -> int:
    """Multiply-adds inside the tower, as torch counts them."""
    tower, counted = adapt(model).tower, FlopCounterMode(display=False)
    handles = [
        tower.register_forward_pre_hook(lambda *_: counted.__enter__() and None),
        tower.register_forward_hook(lambda *_: counted.__exit__(None, None, None)),
    ]
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    return counted.get_total_flops() // 2


def matched(layers: tuple[TowerLayer, ...], frames: int, width: int) -> int:
    """What ToMe's own matching multiplies, which the count leaves out."""
    rows = [layer.rows // frames for layer in layers if layer.rows != layer.fed]
    return sum(frames * ((number + 1) // 2) * (number // 2) * width for number in rows)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("spec", "options"), CASES)
def test_the_count_is_torchs(name: str, spec: str, options: dict[str, Any]) -> None:
    model, inputs, pixels = still(name, attention="eager")  # of a CPU's sdpa torch counts nothing
    values = inputs[pixels]
    every = values.flatten(0, 1) if values.ndim == 5 else values
    every[2, :, :8, :8] += 1.0  # one patch moves
    vision, adapter = model.config.vision_config, adapt(model)
    tower, grid = Tower.of(vision), own_grid(vision)
    with attach(model, spec, options) as session:
        counted = multiplied(model, inputs)
        share = session.report[0].tower
    assert share is not None
    frames = len(every)
    extra = 0
    if spec == "tome":
        heads = adapter.tower.config.num_attention_heads
        extra = matched(share.layers, frames, tower.width // heads)
    assert counted == tower.shrunk(frames, grid, share.layers) + extra
    full = frames * tower.encode(grid)
    assert counted < full
    if spec == "reuse":  # which states how many rows skip: the rest of this video but a patch
        first = int(adapter.cls)
        moved = 0 if options else 2 * (1 + first)  # there and back again, with CLS of these frames
        assert {layer.rows for layer in share.layers} == {grid.patches + first + moved}


def test_the_full_count_is_what_it_was() -> None:
    vision = FAMILIES["llava_onevision"].model().config.vision_config
    tower, grid = Tower.of(vision), own_grid(vision)
    rows = grid.patches
    layers = [TowerLayer(rows, rows**2, rows)] * tower.layers
    assert tower.shrunk(1, grid, layers) == tower.encode(grid)
    assert tower.share(1, grid, layers) == 1
