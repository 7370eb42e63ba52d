"""LLaVA-Video: stock generation over its features, which are those of the original code."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import natives
import pytest
import torch
from clips import write_video
from natives import IMAGE, TOWER
from running import FAST, read
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d
from transformers import AutoModelForImageTextToText, Qwen2VLConfig

from tokenprune import attach, ops
from tokenprune.adapters import adapt
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError, LoadingError, UnsupportedModelError
from tokenprune.evaluation.batches import Readable
from tokenprune.evaluation.data import Samples
from tokenprune.evaluation.fitting import BatchSize
from tokenprune.loading import native
from tokenprune.loading.checkpoint import configuration, load
from tokenprune.loading.llava_video import LlavaVideoForConditionalGeneration
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import NEWLINES, POOLS, STOCK, Prompted, Variant
from tokenprune.loading.video import read_clip
from tokenprune.tasks import Sample
from tokenprune.tasks.clip import Clip
from tokenprune.tokens import Video

VIDEO = IMAGE + 1
FRAMES = 3
LAYOUTS = [*itertools.product(POOLS, NEWLINES)]


@pytest.fixture(autouse=True)
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native.TOWERS, "siglip-small", TOWER)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Seven patches a side: bilinear pooling makes four of them, the others three."""
    folder = tmp_path_factory.mktemp("native") / "video"
    settings: dict[str, Any] = {"mm_newline_position": "grid", "mm_spatial_pool_mode": "average"}
    return str(natives.save(folder, natives.model(), files=1, **settings))


def literal(model: Any, pixels: Tensor, pool: str, newline: str) -> Tensor:
    """Features of one video [rows d], step by step as `llava_arch.py` makes them."""
    body = model.model
    hidden = body.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    features = body.multi_modal_projector(hidden)
    maps = features.view(len(pixels), 7, 7, -1).permute(0, 3, 1, 2).contiguous()
    if pool == "average":
        maps = avg_pool2d(maps, 2)
    elif pool == "max":
        maps = max_pool2d(maps, 2)
    else:
        maps = interpolate(maps, size=[math.ceil(7 / 2)] * 2, mode="bilinear")
    rows: list[Tensor] = []
    for frame in maps.permute(0, 2, 3, 1):
        for line in frame:
            rows += list(line)
            if newline == "grid":
                rows.append(body.image_newline)
        if newline == "frame":
            rows.append(body.image_newline)
    if newline == "one_token":
        rows.append(body.image_newline)
    return torch.stack(rows)


@pytest.mark.parametrize(("pool", "newline"), LAYOUTS)
def test_stock_generation_is_the_original_code(home: str, pool: str, newline: str) -> None:
    """Logits of every step, against a forward without a cache over features placed by hand."""
    loaded: Any = load(home, device="cpu", variant=Variant(pool=pool, newline=newline))[0]
    loaded.generation_config.eos_token_id = None  # random words would end an answer
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, FRAMES, 3, 56, 56, generator=generator)
    words = torch.randint(8, IMAGE, (2, 9), generator=generator)
    with torch.no_grad():
        videos = [literal(loaded, frames, pool, newline) for frames in pixels]
        marks = torch.full((2, len(videos[0])), VIDEO)
        ids = torch.cat([words[:, :4], marks, words[:, 4:]], 1)
        made = loaded.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values_videos=pixels,
            max_new_tokens=5,
            do_sample=False,
            repetition_penalty=1.0,  # a checkpoint's own is no part of its logits
            output_logits=True,
            return_dict_in_generate=True,
        )
        table = loaded.get_input_embeddings()
        for row, video in enumerate(videos):
            answer = made.sequences[row, ids.shape[1] :]
            texts = table(words[row, :4]), table(words[row, 4:]), table(answer)
            whole = torch.cat([texts[0], video, texts[1], texts[2]]).unsqueeze(0)
            expected = loaded.lm_head(
                loaded.model.language_model(inputs_embeds=whole, use_cache=False).last_hidden_state
            )[0, ids.shape[1] - 1 : -1]
            got = torch.stack([step[row] for step in made.logits])
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
            assert torch.equal(got.argmax(-1), answer)


def test_the_checkpoints_own_layout_is_the_default(home: str) -> None:
    own: Any = configuration(home)
    assert (own.model_type, own.pool, own.newline) == ("llava_video", "average", "grid")
    chosen: Any = configuration(home, Variant(newline="frame"))
    assert (chosen.pool, chosen.newline) == ("average", "frame")


def test_llava_onevisions_own_layout_is_its_own_class(home: str) -> None:
    variant = Variant(pool="bilinear", newline="one_token")
    assert configuration(home, variant).model_type == "llava_onevision"
    converted: Any = configuration("tiny", Variant(pool="max"))
    assert (converted.model_type, converted.pool, converted.newline) == (
        "llava_video",
        "max",
        "one_token",
    )


def test_converted_checkpoints_can_be_pooled_otherwise() -> None:
    """All weights are there, also under the names that transformers has renamed since."""
    varied: Any = load("tiny", device="cpu", variant=Variant(pool="average"))[0]
    plain: Any = load("tiny", device="cpu")[0]
    ours, theirs = varied.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert isinstance(varied, LlavaVideoForConditionalGeneration)


def test_what_was_saved_is_loaded_again(home: str, tmp_path: Path) -> None:
    saved: Any = load(home, device="cpu")[0]
    saved.save_pretrained(tmp_path / "saved")
    stock: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    assert isinstance(stock, LlavaVideoForConditionalGeneration)
    assert (stock.config.pool, stock.config.newline) == ("average", "grid")
    ours, theirs = stock.state_dict(), saved.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["pool", "newline"])
def test_layouts_that_there_are_not(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=none is unknown: write "):
        replace(STOCK, **{name: "none"})


def test_images_are_untouched(home: str) -> None:
    """The grid's newlines are of videos: an image has its own, as in LLaVA-OneVision."""
    video: Any = load(home, device="cpu")[0]
    onevision: Any = load(
        home, device="cpu", variant=Variant(pool="bilinear", newline="one_token")
    )[0]
    pixels = torch.randn(1, 2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[56, 56]])
    features = [
        model.model.get_image_features(pixels, sizes, return_dict=True).pooler_output[0]
        for model in (video, onevision)
    ]
    assert torch.equal(*features)


ROWS = {  # of two frames of two rows of two cells, by hand
    "grid": [0, 1, -1, 2, 3, -1, 4, 5, -1, 6, 7, -1],
    "frame": [0, 1, 2, 3, -1, 4, 5, 6, 7, -1],
    "one_token": [0, 1, 2, 3, 4, 5, 6, 7, -1],
}


@pytest.mark.parametrize("newline", NEWLINES)
def test_newlines_are_text(home: str, newline: str) -> None:
    loaded = load(home, device="cpu", variant=Variant(pool="max", newline=newline))[0]
    if newline == "one_token":
        assert loaded.config.model_type == "llava_video", "the pooling is not LLaVA-OneVision's"
    assert adapt(loaded).pattern(Video(2, 2, 2)).tolist() == ROWS[newline]


@pytest.mark.parametrize(("pool", "newline"), LAYOUTS)
def test_the_processor_and_a_session_fit_the_model(home: str, pool: str, newline: str) -> None:
    """`none` is stock; a stage drops cells of frames and never a newline."""
    loaded: Any
    loaded, processor = load(home, device="cpu", variant=Variant(pool=pool, newline=newline))
    clip = torch.randint(0, 256, (FRAMES, 40, 60, 3), dtype=torch.uint8)
    inputs = processor.encode([(clip, "How many?"), (clip.flip(0), "Which one is red?")])
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}
    stock = loaded.generate(**inputs, **settings)
    with attach(loaded, "none"):
        assert torch.equal(loaded.generate(**inputs, **settings), stock)
    side = 4 if pool == "bilinear" else 3
    newlines = {"grid": FRAMES * side, "frame": FRAMES, "one_token": 1}[newline]
    alone = processor.encode([(clip, "How many?")])
    with attach(loaded, "uniform", {"uniform.keep": 0.5}) as session, torch.no_grad():
        held = loaded(**alone).past_key_values.layers[0].keys.shape[-2]
    visual, rows = FRAMES * side**2, alone["input_ids"].shape[1]
    assert int((alone["input_ids"] == VIDEO).sum()) == visual + newlines
    report = session.report[0]
    assert (report.full, report.kept) == (visual, ops.count(visual, 0.5))
    assert held == rows - visual + report.kept


def test_a_run_records_its_layout(home: str, tmp_path: Path) -> None:
    words = ["run", "strategy=visionzip", f"model={home}", *FAST, "limit=2"]
    assert main([*words, f"out={tmp_path / 'own'}"]) == 0
    summary = read(tmp_path / "own")[0]
    assert (summary["pool"], summary["newline"]) == ("average", "grid")
    assert summary["systems"]["strategy"]["errors"] == 0
    assert main([*words, "newline=frame", f"out={tmp_path / 'other'}"]) == 0
    summary = read(tmp_path / "other")[0]
    assert (summary["pool"], summary["newline"]) == ("average", "frame")
    assert summary["systems"]["vanilla"]["reused"] is None


def test_other_families_have_no_such_choice(tmp_path: Path) -> None:
    Qwen2VLConfig().save_pretrained(tmp_path)
    with pytest.raises((LoadingError, UnsupportedModelError), match="qwen2_vl"):
        configuration(str(tmp_path), Variant(pool="average"))


def test_the_time_instruction_is_said_before_the_question(home: str, tmp_path: Path) -> None:
    """As `load_video` and the model card of the original have it: 40 frames at 10 per second."""
    file = write_video(tmp_path / "clip.mp4", 40)
    words = ["run", "strategy=uniform", f"model={home}", f"video={file}", "question=What moves?"]
    words += ["device=cpu", "frames=3", "max_new_tokens=2"]
    assert main([*words, "time_instruction=true", f"out={tmp_path / 'told'}"]) == 0
    summary, records = read(tmp_path / "told")
    assert summary["time_instruction"] is True
    assert records[0]["duration"] == pytest.approx(4.0)
    told = (
        "The video lasts for 4.00 seconds, and 3 frames are uniformly sampled from it. These "
        "frames are located at 0.00s,1.90s,3.90s.Please answer the following questions related to "
        "this video.\nWhat moves?"
    )
    assert f"<image>\n{told}<|im_end|>" in records[0]["prompt"]
    assert main([*words, f"out={tmp_path / 'plain'}"]) == 0
    assert "<image>\nWhat moves?" in read(tmp_path / "plain")[1][0]["prompt"]

    clip = read_clip(file, 3)
    sample = Sample("a", "What moves?", "", "", clip.frames, times=clip.times, duration=4.0)
    processor = Processor.load(home, Prompted(time_instruction=True))
    data = Samples(
        Readable(Clip(str(file), "What moves?", 3)), [0], processor, size=BatchSize(1), workers=0
    )
    batch = data.encode([(0, sample)])
    asked = Processor.load(home).encode([(clip.frames, told)])
    assert torch.equal(batch.groups[0].inputs["input_ids"], asked["input_ids"])


def test_a_video_without_a_clock_has_no_time_instruction(
    home: str, tmp_path: Path, capsys: Any
) -> None:
    words = ["run", "strategy=uniform", f"model={home}", *FAST, "limit=1", "time_instruction=true"]
    assert main([*words, f"out={tmp_path / 'out'}"]) == 2
    assert "leave time_instruction= out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_newline_goes_with_the_last_token_before_it(home: str, newline: str) -> None:
    """As in FastVID's and HoliTom's releases; the logits are those of the rows that are left."""
    variant = Variant(pool="average", newline=newline, newline_rule="row")
    loaded: Any
    loaded, processor = load(home, device="cpu", variant=variant)
    clip = torch.randint(0, 256, (FRAMES, 40, 60, 3), dtype=torch.uint8)
    inputs = processor.encode([(clip, "How many?")])
    with torch.no_grad(), attach(loaded, "random", {"random.keep": 0.25}) as session:
        found = loaded(**inputs).logits[0, -1]
    slots, adapter = session.report[0].slots, adapt(loaded)
    cells = {frame * 9 + slot for frame, own in enumerate(slots) for slot in own}
    run = {"grid": 3, "frame": 9, "one_token": 9 * FRAMES}[newline]
    spent = [
        line
        for line in range(9 * FRAMES // run)
        if cells.isdisjoint(range(line * run, line * run + run))
    ]
    before = 9 * FRAMES // run
    assert session.report[0].beside == (before, before - len(spent))
    assert bool(spent) == (newline == "grid"), "a quarter of the cells leaves no frame empty"
    pattern = torch.from_numpy(adapter.pattern(Video(FRAMES, 3, 3)))
    line = torch.arange(before).repeat_interleave(run + 1)
    stays = torch.isin(pattern, torch.tensor(sorted(cells)))
    stays |= (pattern == -1) & ~torch.isin(line, torch.tensor(spent, dtype=torch.long))
    video = inputs["input_ids"][0] == processor.video_token_id
    kept = torch.ones_like(video)
    kept[video] = stays
    with torch.no_grad():
        embeds = adapter.see(
            inputs["input_ids"],
            {"pixel_values": inputs["pixel_values_videos"][0]},
            [[Video(FRAMES, 3, 3)]],
        )["inputs_embeds"]
        expected = loaded.lm_head(
            loaded.model.language_model(inputs_embeds=embeds[:, kept]).last_hidden_state
        )[0, -1]
    assert torch.allclose(found, expected, atol=2e-5)
