"""`tokenprune bench`: what it writes, that its counts are exact and its references have the budget
they claim.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import benches
import pytest
import torch
from benches import (
    CELLS,
    FRAMES,
    FULL,
    NEW,
    TEXT,
    benched,
    check,
    counted_by_torch,
    material,
    small,
)
from models import llava_onevision
from rich.console import Console

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.bench import memory, plan
from tokenprune.bench.candidates import Attached, Dense
from tokenprune.bench.columns import FIGURES
from tokenprune.bench.config import parse_bench
from tokenprune.bench.inputs import prepare
from tokenprune.bench.measure import settled
from tokenprune.bench.operations import Work, exact, papers, papers_prefill
from tokenprune.bench.oracle import oracle, widths
from tokenprune.bench.plan import outline
from tokenprune.bench.ratios import RATIOS
from tokenprune.bench.reading import PARTS, Reading, Seen
from tokenprune.bench.run import Done
from tokenprune.bench.screen import measured
from tokenprune.bench.shapes import SHAPES, build, shape_configuration
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.flops import Decoder, cs, prefill

T, X = 1e12, 6272


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> str:
    return benches.shape(tmp_path_factory.mktemp("shape"))


def test_a_bench_of_a_shape(shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "strategy=dycoke,fastv,dytok+random",
        f"model={shape}",
        "vision=random",
        f"frames={FRAMES}",
        "batch=2",
    ]
    result = benched(
        tmp_path / "out",
        *words,
        f"text={TEXT}",
        f"new_tokens={NEW}",
        "repeats=1",
        "random.keep=0.25",
    )
    check(result, depth=5)
    where, (dycoke, fastv, guided) = result["environment"], result["rows"]
    assert (where["weights"], where["vision"], where["tokens_per_frame"]) == (
        "random",
        "random",
        CELLS,
    )
    assert "weights and inputs plus the peak" in where["memory_method"]
    assert dycoke["vanilla"]["visual_tokens_per_layer"] == [FULL] * 5
    assert dycoke["strategy"]["visual_tokens_per_layer"] == [9 + 3 * 2] * 5, (
        "dycoke.merge=0.7 of nine"
    )
    assert dycoke["strategy"]["decode_visual_tokens_per_layer"] == [15, 15, 15, 4, 4], (
        "dycoke.prune=0.7 from layer 3"
    )
    assert fastv["strategy"]["visual_tokens_per_layer"] == [36, 36, 18, 18, 18]
    assert (
        guided["strategy"]["probe_ms"]
        > 0
        == guided["random"]["probe_ms"]
        == dycoke["strategy"]["probe_ms"]
    )
    assert guided["ratios"]["prefill_speedup_without_probe"] > guided["ratios"]["prefill_speedup"]
    assert (
        guided["strategy"]["exact_flops_by_part"]["probe"]
        > 0
        == guided["random"]["exact_flops_by_part"]["probe"]
    )
    assert guided["strategy"]["papers_flops"] > guided["oracle"]["papers_flops"]
    for row in result["rows"]:
        assert row["strategy"]["video_ms"] is None and row["strategy"]["vision_ms"] == 0
        assert row["strategy"]["exact_flops_by_part"]["tower"] == 0
    # keys and values, two heads of 8 floats, two samples
    rows, width = TEXT + 1 + NEW - 1, 2 * 2 * 8 * 4 * 2
    assert fastv["vanilla"]["kv_bytes"] == 5 * width * (FULL + rows)
    assert fastv["oracle"]["kv_bytes"] == width * (2 * (36 + rows) + 3 * (18 + rows))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    assert printed.startswith(f"dycoke keeps 15 of {FULL} visual tokens: prefill ")
    out = " ".join(printed.split())  # lines break where a terminal ends
    assert (
        "dense oracle" in out
        and "with random weights" in out
        and "made-up features (no tower)" in out
    )


def test_every_figure_of_a_strategy_stands_upright(shape: str, tmp_path: Path) -> None:
    words = ["strategy=dycoke", f"model={shape}", "vision=random", f"frames={FRAMES}", "text=2"]
    result = benched(tmp_path / "out", *words, "new_tokens=2", "repeats=1")
    screen = Console(width=80, file=StringIO(), record=True)
    screen.print(measured(Done(tmp_path / "out", result), everything=True))
    text = screen.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    names = [one.heading for one in (*FIGURES, *RATIOS) if one.heading]
    missing = [name for name in names if " ".join(name.split()) not in text]
    assert {" ".join(name.split()) for name in missing} <= {
        "video",
        "preprocessing",
        "vision / full",  # made-up features have none
    }


def test_a_bench_of_the_embedded_model(tmp_path: Path) -> None:
    result = benched(
        tmp_path / "out", "strategy=visionzip", "keep=0.25", "frames=2", "new_tokens=2", "repeats=1"
    )
    check(result, depth=6)
    (row,) = result["rows"]
    assert row["strategy"]["visual_tokens_per_layer"] == [18] * 6
    for name in ("vanilla", "oracle", "random", "strategy"):
        assert min(row[name][part] for part in ("video_ms", "preprocess_ms", "vision_ms")) > 0
        assert row[name]["exact_flops_by_part"]["tower"] > 0
    assert result["environment"]["weights"] == "checkpoint"
    assert result["environment"]["strategies"]["visionzip"]["visionzip"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=shape:llava-onevision-8b"], "did you mean shape:llava-onevision-7b"),
        (["strategy=dycok"], "did you mean 'dycoke'"),
        (["strategy="], "strategy= is empty"),
        (["strategy=dycoke,dycoke"], "names dycoke twice"),
        (["keep=25"], "write keep=0.25"),
        (["keep=0.1"], "dycoke retains 25.0% to 100.0% here"),
        (["frames=0"], "write at least 1"),
        (["new_tokens=1"], "write at least 2"),
        (["repeats=x"], "repeats=x is not a whole number"),
        (["ragged=3"], "write batch=4"),
        (["ragged=39", "batch=2"], "write 1 to 38"),
        (["vision=none"], "write tower or random"),
        (["vision=random", "video=a.mp4"], "leave one of them out"),
        (
            ["vision=random", "strategy=visionzip"],
            "visionzip reads the vision tower, which vision=random leaves out",
        ),
        (["vision=random", "strategy=prumerge+dytok"], "prumerge+dytok reads the vision tower"),
        (["vision=random", "strategy=reuse"], "reuse works inside the vision tower, which"),
        (["model=shape:qwen2.5-vl-3b", "strategy=tome"], "stages inside a tower need frame by"),
        (["cache=paged"], "write dynamic or static"),
        (["assistant=nano"], "add +dytok"),
        (["fastv.drop=0.5"], "add fastv to it"),
        (
            ["trainer.devices=2"],
            "trainer.devices= is an option of no strategy in strategy=dycoke: add trainer",
        ),
        (["frames=4", "frames=8"], "frames= is given twice: leave one of them out"),
        (["dycoke.merg=0.5"], "dycoke.merg"),
        (["dycoke.layer=9"], "write a layer from 1 to 5"),
        (["frame=3"], "did you mean frames=?"),
        (["--frames"], "write frames=VALUE"),
        (["out="], "out= is empty"),
    ],
)
def test_every_mistake_is_one_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {word.partition("=")[0] for word in words}
    rest = [
        word
        for word in ("strategy=dycoke", f"out={tmp_path / 'out'}")
        if word.partition("=")[0] not in keys
    ]
    assert main(["bench", *words, *rest]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tokenprune: error: ")
    assert reason in captured.err
    assert not (tmp_path / "out").exists()


def test_a_figure_that_is_no_number_leaves_nothing(
    shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tokenprune.bench.run._measure", lambda plan, command: {"rows": [float("nan")]}
    )
    assert (
        main(
            [
                "bench",
                "strategy=random",
                f"model={shape}",
                "vision=random",
                f"out={tmp_path / 'out'}",
            ]
        )
        == 2
    )
    assert "infinite or not a number: measure again" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_weights_that_cannot_fit_are_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_room", lambda device: 16_000_000_000)
    words = ["strategy=dycoke", "model=shape:llava-onevision-7b", "dtype=bfloat16", "device=cpu"]
    assert main(["bench", *words, f"out={tmp_path / 'out'}"]) == 2
    assert "are 16.1 GB, and cpu has 16.0 GB: choose a smaller one" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert main(["bench", "strategy=random", f"out={tmp_path}"]) == 2
    assert "is not empty" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="add out=DIR"):
        parse_bench(["strategy=random"])


def test_options_go_to_the_strategies_that_have_them() -> None:
    config = parse_bench(
        ["strategy=fastv,fastv+dytok,dycoke", "fastv.drop=0.75", "dytok.layers=[1,2]", "out=x"]
    )
    assert config.of("fastv") == {"fastv.drop": 0.75}
    assert config.of("fastv+dytok") == {"fastv.drop": 0.75, "dytok.layers": [1, 2]}
    assert config.of("dycoke") == {}


@pytest.mark.parametrize(("name", "size"), [("0.5b", 0.89e9), ("7b", 8.03e9), ("72b", 73.2e9)])
def test_shapes_have_the_published_sizes(name: str, size: float) -> None:
    settings = shape_configuration(f"shape:llava-onevision-{name}")
    adapter = outline(settings)
    sizes = SHAPES[f"llava-onevision-{name}"]
    assert adapter.cells == 196
    assert Decoder.of(adapter.text_config).layers == adapter.depth == sizes.layers
    assert sum(part.numel() for part in adapter.model.parameters()) == pytest.approx(size, rel=0.01)


def whole(layers: int, x: float, seen: float | None = None, probe: int = 0) -> Work:
    read = x if seen is None else seen
    return Work(
        images=0,
        full=X,
        text=0,
        layers=[x] * layers,
        decode=[read] * layers,
        generated=100,
        probe_layers=probe,
    )


@pytest.mark.parametrize(
    ("name", "layers", "x", "seen", "expected"),
    [
        ("7b", 28, X, None, 41.4165),
        ("7b", 28, 2979.2, None, 17.9796),
        ("7b", 28, 3449.6, None, 21.0613),
        ("7b", 28, 2979.2, 2979.2 * 0.3, 17.9377),
        ("72b", 80, X, None, 436.1767),
        ("72b", 80, X * 0.625, X * 0.625 * 0.3, 262.4272),
        ("0.5b", 24, X, None, 3.5431),
        ("0.5b", 24, X * 0.775, X * 0.775 * 0.3, 2.4427),
    ],
)
def test_the_papers_count_of_the_shapes(
    name: str, layers: int, x: float, seen: float | None, expected: float
) -> None:
    settings = shape_configuration(f"shape:llava-onevision-{name}")
    assert papers(settings, whole(layers, x, seen)) / T == pytest.approx(expected, rel=1e-4)


def test_the_papers_count_of_a_guide_and_of_layers() -> None:
    seven, small_one = (
        shape_configuration(f"shape:llava-onevision-{name}") for name in ("7b", "0.5b")
    )
    assert papers_prefill(seven, whole(28, X)) / T == pytest.approx(40.7655, rel=1e-4)
    guided = papers_prefill(seven, whole(28, 32 * 49, probe=24), small_one)
    assert guided / T == pytest.approx(12.20, abs=0.006), "DyToK, table 16"
    layers = [X] * 2 + [0.2 * X] * 26
    assert papers_prefill(seven, Work(0, X, 0, layers, layers, 100)) / T == pytest.approx(
        9.3095, rel=1e-4
    )


def test_the_exact_count_is_the_stricter_one_without_text() -> None:
    settings = shape_configuration("shape:llava-onevision-7b")
    counted = exact(settings, whole(28, X))
    assert counted.prefill == prefill(Decoder.of(settings.get_text_config()), X, cs)
    assert counted.prefill / T == pytest.approx(48.8219, rel=1e-4)
    assert counted.lm_head == 100 * 3584 * 152128
    tower = exact(settings, Work(32, X, 0, [X] * 28, [X] * 28, 2)).tower
    patches, d, m = 729, 1152, 4304
    by_hand = patches * 588 * d + 26 * (
        4 * patches * d * d + 2 * patches * patches * d + 2 * patches * d * m
    )
    assert tower == 32 * by_hand


@pytest.mark.parametrize("tokens", [2, 4])
def test_the_exact_count_is_what_torch_counts(tokens: int) -> None:
    given = material("tower", attention="eager")
    width = 18
    for dense in (Dense(given, tokens, FULL), Dense(given, tokens, width)):
        work = Work(FRAMES, FULL, TEXT + 1, [dense.width] * 5, [dense.width] * 5, tokens)
        expected = exact(given.adapter.model.config, work).total
        assert counted_by_torch(lambda dense=dense: dense.generate(tokens)) == expected


def test_a_probe_is_counted_as_far_as_it_runs() -> None:
    given = material(attention="eager")
    own = Attached(given, 2, registry.build("random+dytok", {"dytok.layers": [2, 3]}))
    reading = own.turn()
    assert reading.seen.probe.layers == 4
    with own.attached():
        everything = counted_by_torch(lambda: own.generate(1))
    alone = Attached(given, 2, registry.build("random"))
    with alone.attached():
        everything -= counted_by_torch(lambda: alone.generate(1))
    work = Work(
        0, FULL, TEXT + 1, reading.seen.layers, reading.seen.decode, 1, reading.seen.probe.layers
    )
    weighing = everything - exact(given.adapter.model.config, work).probe
    assert 0 <= weighing <= 2 * 4 * 8 * FULL, (
        "what is left is the rows of attention that weigh the frames, two layers'"
    )


@pytest.mark.parametrize("vision", ["tower", "random"])
def test_the_oracle_is_the_stock_model_on_as_many_rows(vision: str) -> None:
    given = material(vision, batch=2)
    ids = given.prompts(18)["input_ids"]
    assert ids.shape == (2, TEXT + 18 + 1)
    assert int((ids == given.adapter.video_token_id).sum()) == 2 * 19
    reading = Dense(given, NEW, 18).turn()
    assert reading.seen.layers == [18.0] * 5
    full = Dense(given, NEW, FULL)
    stock = given.adapter.model
    assert full.turn().seen.layers == [float(FULL)] * 5
    unpruned = Attached(given, NEW, registry.build("none"))
    with unpruned.attached():
        expected = unpruned.generate(NEW).sequences
    assert torch.equal(full.generate(NEW).sequences, expected)
    assert expected.shape[1] == TEXT + FULL + 1 + NEW
    assert not stock._forward_pre_hooks and not given.adapter.language_model._forward_pre_hooks


@pytest.mark.parametrize("spec", [None, "fastv+dytok", "dycoke"])
def test_a_device_that_works_behind_the_cpu_gets_two_passes(spec: str | None) -> None:
    given = material("tower")
    system = Dense(given, NEW, 18) if spec is None else Attached(given, NEW, registry.build(spec))
    once = system.turn()
    system.at_once = False
    twice = system.turn()
    assert (twice.seen, twice.cache) == (once.seen, once.cache)
    timed = {name for name, ms in once.times.items() if ms > 0}
    assert timed == {name for name, ms in twice.times.items() if ms > 0}
    assert {"vision_ms", "prefill_ms", "ttft_ms", "decode_ms_per_token", "total_ms"} <= timed
    assert ("probe_ms" in timed) == (spec == "fastv+dytok")
    assert sum(once.times[name] for name in PARTS) < once.times["ttft_ms"], (
        "parts of one pass fit into it"
    )


def test_an_oracle_of_layers_is_put_together_from_dense_ones() -> None:
    def at(rows: int, slow: float, peak: float) -> Reading:
        times = dict.fromkeys(PARTS, 0.0) | {"prefill_ms": slow, "ttft_ms": slow + 1.0}
        times |= {"decode_ms_per_token": slow / 10, "total_ms": 0.0}
        return Reading(times, peak, 4.0 * rows, Seen([float(rows)] * 4, [float(rows)] * 4))

    own = Seen([40.0, 20.0, 20.0, 20.0], [40.0, 20.0, 8.4, 8.4])
    assert widths(own) == {40, 20, 8}
    found = oracle(
        own, {40: at(40, 10.0, 1000.0), 20: at(20, 6.0, 500.0), 8: at(8, 2.0, 100.0)}, tokens=3
    )
    assert found.seen.layers == own.layers
    assert found.times["prefill_ms"] == 7.0
    assert found.times["decode_ms_per_token"] == pytest.approx((1.0 + 0.6 + 0.2 + 0.2) / 4)
    assert found.times["total_ms"] == pytest.approx(8.0 + 2 * 0.5)
    assert found.cache == 40.0 + 3 * 20.0
    assert found.peak == 1000.0 - 160.0 + 40.0, "the widest layer, with what it alone has cached"
    dense = at(20, 6.0, 500.0)
    assert oracle(dense.seen, {20: dense}, tokens=3).peak == 500.0


@pytest.mark.parametrize(("threshold", "changes"), [(-1.0, 0), (2.0, None)])
def test_changes_of_a_selection_are_counted(threshold: float, changes: int | None) -> None:
    """Whatever is similar keeps the first selection; where nothing is, every step selects, mostly
    something else.
    """
    options = {"dycoke.threshold": threshold, "dycoke.merge": 0.0, "dycoke.prune": 0.5}
    own = Attached(material(), 12, registry.build("dycoke", options))
    found = own.turn().seen.changes
    assert found == changes if changes is not None else found is not None and 5 < found <= 10


def test_a_ragged_batch_is_padded_and_counted(shape: str, tmp_path: Path) -> None:
    words = [
        "strategy=dycoke",
        f"model={shape}",
        "vision=random",
        f"frames={FRAMES}",
        "batch=3",
        "ragged=4",
    ]
    result = benched(tmp_path / "out", *words, f"text={TEXT}", f"new_tokens={NEW}", "repeats=1")
    check(result, depth=5)
    (row,) = result["rows"]
    assert row["vanilla"]["decode_selection_changes"] is None
    speed = row["strategy"]["decode_tokens_per_s"] * row["strategy"]["decode_ms_per_token"]
    assert speed == pytest.approx(3 * 1000.0), "a step makes a token of each of the three"
    given = prepare(small(batch=3, ragged=4), adapt(settled(llava_onevision())), None)
    assert given.texts == [TEXT, TEXT - 2, TEXT - 4] and given.text == TEXT - 2
    prompts = given.prompts(FULL)
    assert prompts["attention_mask"].sum(1).tolist() == [FULL + 1 + text for text in given.texts]
    assert bool(prompts["attention_mask"][:, -1].all()), "padded on the left"
    assert ((prompts["input_ids"] == given.adapter.video_token_id).sum(1) == FULL + 1).all()


def test_memory_is_counted() -> None:
    model = llava_onevision()
    parts = [*model.parameters(), *model.buffers()]
    assert memory.weights([model, model]) == sum(
        part.element_size() * part.numel() for part in parts
    )

    def run() -> None:
        first = torch.zeros(1000)
        second = torch.zeros(500)
        del first
        torch.zeros(100)
        del second

    assert 4 * 1500 <= memory.allocated(run) < 4 * 1500 + 1000


def test_building_a_shape_leaves_random_numbers_alone() -> None:
    settings = llava_onevision().config
    before = torch.get_rng_state()
    made: list[Any] = [
        build(settings, torch.bfloat16, torch.device("cpu"), seed=3) for _ in range(2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert made[0].dtype == torch.bfloat16
    assert torch.equal(made[0].lm_head.weight, made[1].lm_head.weight)
