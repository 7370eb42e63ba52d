"""Small benches for tests: what they measure, and what holds of whatever they have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from models import CELLS, llava_onevision
from torch.utils.flop_counter import FlopCounterMode

from tokenprune.adapters import adapt
from tokenprune.bench.config import DYNAMIC, BenchConfig
from tokenprune.bench.inputs import Inputs, prepare
from tokenprune.bench.measure import settled
from tokenprune.cli.main import main

FRAMES, TEXT, NEW = 4, 8, 4
FULL = FRAMES * CELLS
SMALL = [f"frames={FRAMES}", f"text={TEXT}", f"new_tokens={NEW}", "repeats=1", "vision=random"]
ROW = ("spec", "vanilla", "oracle", "random", "strategy", "ratios")


def small(**changes: Any) -> BenchConfig:
    settings: dict[str, Any] = {
        "frames": FRAMES,
        "text": TEXT,
        "new_tokens": NEW,
        "repeats": 1,
        "vision": "random",
    }
    return BenchConfig(**{"strategy": ["random"], "out": "x", **settings, **changes})


def material(
    vision: str = "random", batch: int = 1, attention: str = "sdpa", cache: str = DYNAMIC
) -> Inputs:
    model = settled(llava_onevision(attention=attention), cache)
    return prepare(small(vision=vision, batch=batch, cache=cache), adapt(model), None)


def shape(folder: Path) -> str:
    """A folder that holds an architecture and no weights, as a word for `model=`."""
    llava_onevision().config.save_pretrained(folder)
    return f"shape:{folder}"


def benched(out: Path, *words: str) -> dict[str, Any]:
    assert main(["bench", *words, f"out={out}"]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["bench.json", "bench.png"]
    return json.loads((out / "bench.json").read_text())


def check(result: dict[str, Any], depth: int) -> None:
    for row in result["rows"]:
        assert tuple(row) == ROW
        for name in ("vanilla", "oracle", "random", "strategy"):
            block = row[name]
            assert len(block["visual_tokens_per_layer"]) == depth
            assert all(
                block[part] > 0
                for part in ("prefill_ms", "ttft_ms", "decode_ms_per_token", "total_ms")
            )
            assert block["strategy_ms"] >= 0
            assert block["peak_memory_bytes"] > block["kv_bytes"] > 0
            assert all(low <= block[part] <= high for part, (low, high) in block["spread"].items())
            assert block["exact_flops"] == sum(block["exact_flops_by_part"].values())
        assert (
            row["strategy"]["visual_tokens_per_layer"] == row["oracle"]["visual_tokens_per_layer"]
        )
        free = ("strategy_over_vanilla_prefill", "probe_over_vanilla_prefill")
        towerless = row["strategy"]["vision_ms"] == 0
        of_towers = ("vision_over_floor", "vision_over_vanilla", "exact_tower_over_vanilla")
        unknown = [row["ratios"].pop(name) is None for name in of_towers]
        assert unknown == [towerless] * 3
        assert all(
            ratio > 0 or (name in free and ratio == 0) for name, ratio in row["ratios"].items()
        )
        average = sum(row["strategy"]["visual_tokens_per_layer"]) / depth
        assert row["random"]["visual_tokens_per_layer"] == [pytest.approx(average, abs=0.5)] * depth


def counted_by_torch(run: Any) -> int:
    """Multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2  # it counts a multiply-add twice
