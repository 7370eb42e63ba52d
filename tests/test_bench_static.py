"""`tokenprune bench cache=static`: static caches in every line, and nothing is compiled while a
clock runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benches import FULL, NEW, SMALL, TEXT, benched, check, material, shape
from compiling import compiled, graphs
from models import CELLS

from tokenprune import build
from tokenprune.bench.candidates import Attached, Dense
from tokenprune.bench.measure import Candidate
from tokenprune.cli.main import main

KEPT = CELLS + 3 * 2  # of dycoke.merge=0.7: the first of four frames whole


def test_every_line_has_a_static_cache_of_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"model={shape(tmp_path / 'shape')}", "strategy=random,dycoke", "cache=static"]
    options = ["random.keep=0.25", "dycoke.prune=0.4"]
    result = benched(tmp_path / "out", *words, *SMALL, *options)
    check(result, depth=5)
    assert result["environment"]["cache"] == "static"
    random, dycoke = result["rows"]
    full, few = random["vanilla"]["kv_bytes"], random["strategy"]["kv_bytes"]
    beside = TEXT + 1 + NEW - 1  # and the newline of a video; the last token is not cached
    assert few / full == pytest.approx((FULL // 4 + beside) / (FULL + beside), rel=0.02)
    assert dycoke["strategy"]["decode_visual_tokens_per_layer"][-1] < KEPT, "it hides rows"
    assert "Cache: static, a step is not compiled on this device" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize("spec", [None, "random", "fastv", "dycoke"])
def test_a_turn_compiles_nothing_that_its_warm_up_has_not(spec: str | None) -> None:
    torch._dynamo.reset()
    before = graphs()  # of other tests
    inputs = material(cache="static")
    candidate: Candidate = Dense(inputs, NEW, FULL)
    if spec is not None:
        candidate = Attached(inputs, NEW, build(spec))
    model: Any = inputs.adapter.model
    model.generation_config.compile_config = compiled()["compile_config"]
    model.generation_config.compile_config.fullgraph = False  # older versions cannot
    candidate.warm_up()  # counts memory, uncompiled or not
    candidate.warm_up()
    made = graphs()
    assert made > before
    reading = candidate.turn()
    assert graphs() == made
    assert reading.times["decode_ms_per_token"] > 0


def test_what_static_caches_cannot_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["strategy=dycoke", "dycoke.offload=true", "cache=static", "frames=2", "new_tokens=4"]
    assert main(["bench", *words, "repeats=1", f"out={tmp_path / 'out'}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cache=static does not go with it: " in line
    assert not (tmp_path / "out").exists()
