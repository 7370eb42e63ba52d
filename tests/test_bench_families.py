"""`tokenprune bench` on every registered family: prompts that its model reads, counts that torch
confirms, and the command itself.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
from benches import counted_by_torch
from families import FAMILIES
from test_families import everywhere

from tokenprune import registry
from tokenprune.adapters import adapt, families
from tokenprune.bench.candidates import Attached, Dense
from tokenprune.bench.config import BenchConfig
from tokenprune.bench.inputs import Inputs, prepare
from tokenprune.bench.measure import settled
from tokenprune.bench.operations import exact
from tokenprune.bench.rows import work_of
from tokenprune.cli.main import main

TEXT, NEW = 8, 3
SMALL = {"size": {"shortest_edge": 64, "longest_edge": 20_000}, "patch_size": 4}


def material(kind: str, batch: int = 1, frames: int = 4) -> Inputs:
    model = settled(FAMILIES[kind].build("eager"))
    config = BenchConfig(
        strategy=["uniform"], out="x", frames=frames, text=TEXT, repeats=1, batch=batch
    )
    settings = SMALL if hasattr(model.config.vision_config, "spatial_merge_size") else {}
    preparation = families()[kind].preparation(model.config, settings)
    return prepare(config, adapt(model), preparation)


@everywhere
def test_prompts_are_what_the_family_reads(kind: str) -> None:
    given = material(kind, batch=2)
    prompts = given.prompts(given.full)
    placed = (prompts["input_ids"] == given.adapter.video_token_id).sum(1)
    assert placed.tolist() == [len(given.adapter.pattern(given.video))] * 2
    assert prompts["attention_mask"].sum(1).tolist() == [TEXT + given.full + given.beside] * 2
    own = Attached(given, NEW, registry.build("uniform", {"uniform.keep": 0.5}))
    with own.attached() as session:
        own.generate(2)
    (report, other) = session.report.samples
    assert report.videos == other.videos == (given.video,)
    assert report.kept == other.kept and 0 < report.kept < report.full == given.full


@everywhere
def test_the_exact_count_is_what_torch_counts(kind: str) -> None:
    given = material(kind)
    if kind.endswith("_moe"):  # torch does not count products that are grouped by expert
        given.adapter.model.set_experts_implementation("eager")
    config, tokens = given.adapter.model.config, NEW
    if "sliding_attention" in (getattr(given.adapter.text_config, "layer_types", None) or ()):
        # torch counts the whole square of a prompt, of which a mask leaves a window
        config, tokens = deepcopy(config), 1
        config.get_text_config().layer_types = None
    for width in (given.full, given.full // 3):
        dense = Dense(given, tokens, width)
        expected = exact(config, work_of(dense.seen(None), given, tokens)).total
        assert counted_by_torch(lambda dense=dense: dense.generate(tokens)) == expected


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_the_command(kind: str, tmp_path: Path) -> None:
    FAMILIES[kind].build().config.save_pretrained(tmp_path / "shape")
    words = ["strategy=visionzip,fastv+dytok", f"model=shape:{tmp_path / 'shape'}", "frames=2"]
    more = ["keep=0.5", f"text={TEXT}", f"new_tokens={NEW}", "repeats=1", "warmup=1"]
    assert main(["bench", *words, *more, f"out={tmp_path / 'out'}"]) == 0
    result = json.loads((tmp_path / "out" / "bench.json").read_text())
    where, (visionzip, fastv) = result["environment"], result["rows"]
    frames, cells = where["llm_frames"], where["tokens_per_frame"]
    assert frames == (2 if kind == "internvl" else 1)
    full = visionzip["vanilla"]["visual_tokens_per_layer"]
    assert set(full) == {frames * cells}
    assert visionzip["strategy"]["layer_average_tokens"] == pytest.approx(full[0] / 2, abs=1)
    assert fastv["strategy"]["probe_ms"] > 0 < fastv["strategy"]["vision_ms"]
    for row in result["rows"]:
        for line in ("vanilla", "oracle", "random", "strategy"):
            assert row[line]["exact_flops_by_part"]["tower"] > 0 < row[line]["ttft_ms"]


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
def test_a_video_of_any_size_is_not_made_up(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FAMILIES[kind].build().config.save_pretrained(tmp_path / "shape")
    words = ["strategy=random", f"model=shape:{tmp_path / 'shape'}", "vision=random"]
    assert main(["bench", *words, f"out={tmp_path / 'out'}"]) == 2
    assert f"videos of {kind} have sizes of their own" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_signal_that_a_tower_lacks_is_refused_before_weights(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, family = ("tiny", "llava_onevision")
    if command == "bench":
        model, family = ("shape:qwen2.5-vl-7b", "qwen2_5_vl")
    words = ["strategy=prumerge", "prumerge.proxy=cls", f"model={model}"]
    assert main([command, *words, f"out={tmp_path / 'out'}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"that of {family} does not give: choose 'received' or 'mean_query'" in said


def test_a_sliding_layer_is_refused_before_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FAMILIES["gemma3"].build().config.save_pretrained(tmp_path / "shape")
    words = ["strategy=fastv", "fastv.layer=1", f"model=shape:{tmp_path / 'shape'}"]
    assert main(["bench", *words, f"out={tmp_path / 'out'}"]) == 2
    assert "fastv.layer=1 reads LLM layer 0 of this gemma3" in capsys.readouterr().err
