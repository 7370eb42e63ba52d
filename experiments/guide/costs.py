"""Multiply-adds of a guide: counted of the architecture, exactly; see `bench.operations`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from transformers import PreTrainedConfig

from experiments.guide.settings import SELF, Setting
from tokenprune.adapters import adapt
from tokenprune.bench.operations import Exact, Work, exact
from tokenprune.bench.published import published
from tokenprune.loading.checkpoint import load
from tokenprune.tokens import Video

MODEL, ASSISTANT = "tiny", "nano"
_TEXT = 30  # rows of text, an average question's, and the newline
_SEVEN, _HALF = "llava-onevision-7b", "llava-onevision-0.5b"
_FRAMES_AT_7B, _TEXT_AT_7B = 32, 60


@cache
def _config(name: str) -> PreTrainedConfig:
    model, _ = load(name, "float32", "cpu")
    return model.config


def depths() -> dict[str, int]:
    """Layers of the guides."""
    names = {SELF: MODEL, ASSISTANT: ASSISTANT}
    return {guide: _depth(_config(name)) for guide, name in names.items()}


def _depth(config: PreTrainedConfig) -> int:
    return config.get_text_config().num_hidden_layers


class Cost(NamedTuple):
    """A guide's operations as a share of what the full model does before its first token."""

    of_prefill: float  # the probe over the language model's prefill
    of_first: float  # and over tower, projector and prefill


def probes(settings: Sequence[Setting], frames: int) -> list[Cost]:
    """Of each setting on the embedded models; an assistant's tower is part of its probe."""
    model, _ = load(MODEL, "float32", "cpu")
    side = int(adapt(model).cells ** 0.5)
    video, config = Video(frames, side, side), model.config
    full = _first(config, video, _TEXT)
    found: list[Cost] = []
    for one in settings:
        guide = None if one.guide == SELF else _config(one.guide)
        counted = _first(config, video, _TEXT, one, guide)
        whole = full.tower + full.projector + full.prefill
        found.append(Cost(counted.probe / full.prefill, counted.probe / whole))
    return found


def _first(
    config: PreTrainedConfig,
    video: Video,
    text: int,
    setting: Setting | None = None,
    guide: PreTrainedConfig | None = None,
    kept: float = 1.0,
    shares: bool = False,
) -> Exact:
    """Operations up to the first token, with `kept` of the video's tokens at the LLM's input."""
    depth = _depth(config)
    rows = [video.tokens * kept] * depth
    layers = 0 if setting is None else max(setting.read(_depth(guide or config))) + 1
    side = 1 if setting is None else setting.pool
    return exact(
        config,
        Work(
            images=video.frames,
            full=video.tokens,
            text=text,
            layers=rows,
            decode=rows,
            generated=1,
            probe_layers=layers,
            probe_rows=video.pooled(side).tokens,
            shares_tower=shares,
        ),
        guide,
    )


class AtSize(NamedTuple):
    """A guide of a 7B model at 32 frames, a quarter of whose tokens is kept."""

    guide: str
    probe: float  # in 1e12 multiply-adds
    of_prefill: float  # the probe over the full model's prefill
    speedup: float  # operations up to the first token: the full model's over these


def at_7b(kept: float = 0.25) -> Iterator[AtSize]:
    """LLaVA-OneVision's sizes; a single layer is the first of the last third."""
    seven, half = published(_SEVEN), published(_HALF)
    video = Video(_FRAMES_AT_7B, 14, 14)
    full = _first(seven, video, _TEXT_AT_7B)
    before = _until(full)
    for guide, config, shares in ((SELF, None, False), ("0.5B", half, False), ("0.5B", half, True)):
        third = Setting(guide, 1, None).read(_depth(config or seven))
        for pool in (1, 2):
            for layers in (None, (third[0], third[0])):
                one = Setting(guide, pool, layers)
                counted = _first(seven, video, _TEXT_AT_7B, one, config, kept, shares)
                label = one.label + (", shared tower" if shares else "")
                ratio = before / _until(counted)
                yield AtSize(label, counted.probe / 1e12, counted.probe / full.prefill, ratio)
    none = _first(seven, video, _TEXT_AT_7B, None, None, kept)
    yield AtSize("no guide", 0.0, 0.0, before / _until(none))


def _until(counted: Exact) -> float:
    """Operations up to the first token."""
    return counted.tower + counted.projector + counted.probe + counted.prefill + counted.lm_head
