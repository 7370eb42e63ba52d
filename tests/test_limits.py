"""The floors of a bench: what they are made of, by hand and beside what a live model holds."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES
from models import llava_onevision
from rich.console import Console
from torch import nn

from tokenprune.adapters import VideoLLM, adapt
from tokenprune.bench import machine
from tokenprune.bench.attended import pairs
from tokenprune.bench.candidates import Dense
from tokenprune.bench.config import BenchConfig
from tokenprune.bench.inputs import Inputs, prepare
from tokenprune.bench.limits import Limits, Step, Weights, step
from tokenprune.bench.machine import Machine, rates
from tokenprune.bench.measure import settled
from tokenprune.bench.operations import Work, exact, skipped
from tokenprune.bench.rows import work_of
from tokenprune.bench.run import Done
from tokenprune.bench.screen import measured
from tokenprune.bench.share import shares_markdown, steps_of
from tokenprune.cli.main import main
from tokenprune.results.column import Row
from tokenprune.runtime.clock import Clock

FRAMES, CELLS, TEXT = 4, 9, 8
FULL = FRAMES * CELLS
TOOK = {"vision_ms": 6.0, "prefill_ms": 8.0, "strategy_ms": 1.0, "probe_ms": 3.0}
TOOK["decode_ms_per_token"] = 2.0
NONE = Weights(0, 0, 0)


def here(copy: float = 2e9, read: float = 4e9, multiply: float = 1e9) -> Machine:
    return Machine(copy, read, multiply, {})


def material(batch: int = 1) -> Inputs:
    config = BenchConfig(
        strategy=["random"], out="x", frames=FRAMES, text=TEXT, vision="random", batch=batch
    )
    return prepare(config, adapt(settled(llava_onevision())), None)


def test_rates_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_BUFFER", 1 << 20)
    monkeypatch.setattr(machine, "_SIDES", (64, 128))
    found = [rates(torch.device("cpu"), torch.bfloat16) for _ in range(2)]
    best = Machine.of(found)
    assert best.multiply_adds_per_s == max(one["multiply_adds_per_s"] for one in found)
    assert all(0 < low <= high < float("inf") for low, high in best.spread.values())
    assert set(best.spread) == set(found[0])


def test_a_product_that_takes_long_is_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def took(run: Any, *_: Any) -> float:
        side = len(run())
        sides.append(side)
        return {8: 1e-6, 16: 4e-6, 32: 1.0}[side]

    monkeypatch.setattr(machine, "_SIDES", (8, 16, 32, 64))
    monkeypatch.setattr(machine, "_seconds", took)
    here = torch.device("cpu")
    best = machine._multiplied(here, torch.float32, Clock([here], on=True))
    assert sides == [8, 16, 32] and best == pytest.approx(16**3 / 4e-6)


def test_a_floor_is_the_longer_of_bytes_and_products() -> None:
    assert here().floor_ms(8e9, 1e9) == 2000.0, "the faster of copying and reading"
    assert here().floor_ms(4e9, 3e9) == 3000.0
    assert here(copy=8e9).floor_ms(8e9, 1e8) == 1000.0


@pytest.mark.parametrize(("rows", "window"), [(1, 5), (5, 5), (9, 4), (7, float("inf"))])
def test_a_causal_kernel_does_each_pair_that_it_cannot_skip(rows: int, window: float) -> None:
    by_hand = sum(query - key < window for query in range(rows) for key in range(query + 1))
    assert pairs(rows, window) == by_hand


def test_what_is_skipped_is_about_half_of_attention() -> None:
    given = material()
    config, rows = given.adapter.model.config, FULL + TEXT + 1
    work = Work(0, FULL, TEXT + 1, [FULL] * 5, [FULL] * 5, 2)
    later = rows * (rows - 1) / 2
    query = given.adapter.text_config.num_attention_heads * 8
    assert skipped(config, work) == 5 * 2 * later * query
    assert skipped(config, work) < exact(config, work).prefill / 2


def held(module: nn.Module) -> int:
    """Bytes of its float32 weights."""
    return 4 * sum(part.numel() for part in module.parameters())


def table(adapter: VideoLLM) -> int:
    """Bytes of the embedding."""
    return 4 * adapter.language_model.get_parameter("embed_tokens.weight").numel()


def test_a_step_reads_the_weights_that_are_there() -> None:
    adapter = material().adapter
    found = Weights.of(adapter)
    assert found.layers == held(adapter.language_model) - table(adapter) > 0
    assert found.head == 4 * adapter.model.get_parameter("lm_head.weight").numel()
    assert found.tower == held(adapter.tower)
    assert found.step == found.layers + found.head


def test_of_experts_those_are_read_that_a_token_goes_through() -> None:
    adapter = adapt(FAMILIES["qwen3_vl_moe"].build("eager"))
    named = adapter.language_model.named_parameters()
    experts = 4 * sum(part.numel() for name, part in named if ".experts." in name)
    others = held(adapter.language_model) - table(adapter) - experts
    text = adapter.text_config
    share = text.num_experts_per_tok / text.num_experts
    assert experts > 0 and share < 1
    assert Weights.of(adapter).layers == pytest.approx(others + share * experts, abs=1)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_only_step_reads_the_whole_cache(batch: int) -> None:
    given = material(batch)
    dense = Dense(given, 2, 18)
    reading = dense.turn()
    read = step(given.adapter.model.config, work_of(reading.seen, given, 2), batch, NONE, 4)
    assert read.cache == reading.cache


def test_floors_by_hand() -> None:
    given, weights = material(), Weights(tower=80_000_000, layers=4_000_000, head=400_000)
    config, work = given.adapter.model.config, Work(2, FULL, 9, [18] * 5, [18] * 5, 3)
    counted = exact(config, work)
    found = Limits(here(), weights, 2, 4).figures(config, work, counted, TOOK)
    read = step(config, work, 2, weights, 4)
    assert found["vision_floor_ms"] == 1e3 * 80_000_000 / 4e9, "so few products need no time"
    both = 2 * (counted.prefill - skipped(config, work))
    assert found["prefill_floor_ms"] == pytest.approx(1e3 * both / 1e9)
    assert found["prefill_floor_ms"] > 1.0, "which reading the weights takes"
    assert found["decode_floor_ms"] == pytest.approx(1e3 * (4_400_000 + read.cache) / 4e9)
    assert found["vision_over_floor"] == 6.0 / found["vision_floor_ms"]
    assert found["prefill_over_floor"] == 12.0 / found["prefill_floor_ms"], "with all it cost"
    assert found["decode_over_floor"] == 2.0 / found["decode_floor_ms"]
    assert found["decode_cache_share"] == read.cache / (4_400_000 + read.cache)
    slow = Limits(here(multiply=1e3), weights, 2, 4).figures(config, work, counted, TOOK)
    once = (counted.decode / 2 + counted.lm_head / 3) / 1e3
    assert slow["decode_floor_ms"] == pytest.approx(1e3 * 2 * once), "products of both samples"
    blind = Work(0, FULL, 9, [18] * 5, [18] * 5, 3)
    without = Limits(here(), weights, 2, 4).figures(config, blind, counted, TOOK)
    assert without["vision_floor_ms"] is None is without["vision_over_floor"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("limits")
    llava_onevision().config.save_pretrained(folder / "shape")
    words = ["strategy=dycoke,tome+fastv+dycoke", f"model=shape:{folder / 'shape'}", "repeats=1"]
    sizes = [f"frames={FRAMES}", f"text={TEXT}", "new_tokens=3", f"out={folder / 'out'}"]
    assert main(["bench", *words, *sizes]) == 0
    return json.loads((folder / "out" / "bench.json").read_text())


def test_a_bench_writes_rates_floors_and_shares(result: dict[str, Any]) -> None:
    device = result["environment"]["machine"]
    assert set(device) == {
        "copy_bytes_per_s",
        "read_bytes_per_s",
        "multiply_adds_per_s",
        "spread",
    }
    for row in result["rows"]:
        for line in ("vanilla", "oracle", "random", "strategy"):
            figures: Row = row[line]
            read = Step(figures["decode_weight_bytes"], figures["decode_cache_bytes"])
            assert figures["decode_cache_share"] == pytest.approx(read.share, rel=1e-3)
            took = figures["prefill_ms"] + figures["strategy_ms"] + figures["probe_ms"]
            assert figures["prefill_over_floor"] == took / figures["prefill_floor_ms"]
            for name, spent in (("vision", "vision_ms"), ("decode", "decode_ms_per_token")):
                floor = figures[f"{name}_floor_ms"]
                assert floor > 0 and figures[f"{name}_over_floor"] == figures[spent] / floor
        for part in ("vision", "prefill", "decode"):
            name = f"{part}_over_floor"
            assert row["ratios"][name] == row["strategy"][name]
        few, many = row["strategy"], row["vanilla"]
        assert few["prefill_floor_ms"] < many["prefill_floor_ms"]
        assert few["decode_cache_bytes"] < many["decode_cache_bytes"]


def test_rows_take_a_line_each_in_80_columns(result: dict[str, Any]) -> None:
    def printed(longest: str) -> list[str]:
        rows = [result["rows"][0], {**result["rows"][1], "spec": longest}]
        screen = Console(width=80, file=StringIO(), record=True)
        screen.print(measured(Done(Path("out"), {**result, "rows": rows})))
        return screen.export_text().splitlines()

    for spec in ("fastv", "dycoke+dytok+visionzip", "+".join(["pyramiddrop"] * 6)):
        lines = printed(spec)
        assert max(map(len, lines)) <= 80
        cut = spec[:12]
        rows = [line for line in lines if line.startswith(f" {cut}")]
        assert len(rows) == 2, "one in each table"
        assert all(line.split()[-1].replace(".", "").isdigit() for line in rows)
        assert any(line.startswith(" full model") and " - " in line for line in lines)
        assert ("…" in "".join(lines)) == (len(spec) > 22)
    text = " ".join(" ".join(printed("fastv")).split())
    assert "prefill / oracle" not in text, "headings stand above each other"
    assert "pruning while decoding saves" in text and "T multiply-adds/s in float32" in text


def test_where_a_cache_weighs_more_than_the_weights() -> None:
    shape, few, many = "shape:llava-onevision-7b", (32, 128), (1, 16)
    (one, _), (_, largest) = steps_of(shape, few, many, torch.bfloat16)
    assert one.weights == largest.weights == 14_141_697_024
    rows = 32 * 196 + 40 + 50  # mean over 99 steps: 1 to 99 new rows
    assert one.cache == rows * 28 * 2 * 512 * 2
    assert one.share == pytest.approx(0.025, abs=0.001)
    assert largest.cache > largest.weights
    lines = shares_markdown(shape, few, many, torch.bfloat16).splitlines()
    assert lines[0] == "| batch | 32 frames | 128 frames |"
    assert lines[2].startswith("| 1 | 2.5 % | ") and lines[3].endswith(" | 62.0 % |")
