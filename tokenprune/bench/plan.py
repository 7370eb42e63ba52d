"""Everything about a bench that can be wrong, found before weights are loaded or made."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune.adapters import families
from tokenprune.adapters.preparation import Preparation
from tokenprune.bench.clip import size_of
from tokenprune.bench.config import RANDOM, BenchConfig
from tokenprune.bench.prompts import marks_of
from tokenprune.bench.shapes import build, is_shape, shape_configuration, shape_frames
from tokenprune.errors import ConfigError
from tokenprune.evaluation.extent import Uncompressed, check_context
from tokenprune.loading.checkpoint import load, outline
from tokenprune.loading.configuration import configuration, varied
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.loading.processor import Processor
from tokenprune.plugins import load_plugins
from tokenprune.registry import resolve, resolved_fields
from tokenprune.runtime.attachable import check_layers
from tokenprune.runtime.tower_stage import check_tower
from tokenprune.strategy import Extent, Pipeline, TowerReader, TowerStage


@dataclass(frozen=True)
class Plan:
    """A checked bench."""

    config: BenchConfig
    pipelines: dict[str, Pipeline]  # by the words that name them
    settings: PreTrainedConfig
    preparation: Preparation  # of videos
    assistant: PreTrainedConfig | None
    device: torch.device
    dtype: torch.dtype

    def models(self) -> tuple[PreTrainedModel, PreTrainedModel | None]:
        """The model, and the assistant if there is one."""
        model = self._model(self.config.model, self.settings)
        if self.config.assistant is None or self.assistant is None:
            return model, None
        return model, self._model(self.config.assistant, self.assistant)

    def _model(self, name: str, settings: PreTrainedConfig) -> PreTrainedModel:
        if is_shape(name):
            return build(settings, self.dtype, self.device, self.config.seed)
        dtype = str(self.dtype).removeprefix("torch.")
        return load(name, dtype, str(self.device), self.config)[0]


def plan_bench(config: BenchConfig) -> Plan:
    """Raises ConfigError, StrategyError, LoadingError, UnsupportedModelError."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("a bench draws a chart: pip install matplotlib")
    load_plugins(config.plugin)
    named = {spec: resolve(spec, config.of(spec), seed=config.seed) for spec in config.strategy}
    if config.vision == RANDOM:
        _refuse_tower(named.values())
    if config.assistant is not None and not any(one.allocator for one in named.values()):
        raise ConfigError(
            "assistant= guides an allocator, and no strategy has one: add +dytok, or leave it out"
        )
    settings = _settings(config.model, config)
    assistant = None if config.assistant is None else _settings(config.assistant, config)
    preparation = _preparation(config, settings)
    adapter, seen = outline(settings), Uncompressed(settings, preparation, size_of(config))
    for pipeline in named.values():
        adapter.check_signals(pipeline.signals, str(pipeline))
        check_layers(adapter, pipeline.check(adapter.depth))
        check_tower(adapter, pipeline)
    extent = seen.extent(config.frames)
    pipelines = {spec: _adjusted(one, config.keep, extent) for spec, one in named.items()}
    text = config.text + marks_of(preparation, seen.video(config.frames))
    check_context(config.model, seen, config.frames, text, config.new_tokens)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, settings)
    if config.device_map is None:  # else accelerate counts
        _check_room(config, adapter.model, dtype, device)
    return Plan(config, pipelines, settings, preparation, assistant, device, dtype)


def preview_bench(config: BenchConfig) -> dict[str, Any]:
    """What would be measured, as plain values: `print=true` shows them, `config=` reads them."""
    pipelines = plan_bench(config).pipelines
    return {
        "bench": dataclasses.asdict(config),
        "strategies": {spec: resolved_fields(pipeline) for spec, pipeline in pipelines.items()},
        "budget": config.keep,
        "folder": config.out,
    }


def _refuse_tower(pipelines: Iterable[Pipeline]) -> None:
    """ConfigError for strategies that need a tower which runs."""
    for pipeline in pipelines:
        for kind, does in ((TowerReader, "reads"), (TowerStage, "works inside")):
            if named := [stage.name for stage in pipeline.of(kind)]:
                raise ConfigError(
                    f"{pipeline} {does} the vision tower, which vision={RANDOM} leaves out: "
                    f"measure {' and '.join(named)} with vision=tower, or leave it out of strategy="
                )


def _adjusted(pipeline: Pipeline, keep: float | None, extent: Extent) -> Pipeline:
    """With the budget `keep`, if there is one and the pipeline is not the full model."""
    if keep is None or not pipeline.strategies:
        return pipeline
    return pipeline.retaining(keep, extent)


def _check_room(
    config: BenchConfig, model: PreTrainedModel, dtype: torch.dtype, device: torch.device
) -> None:
    """ConfigError where the weights alone are more than the device's whole memory.

    A CPU would swap, or be killed.
    """
    each = dtype.itemsize if config.bits is None else config.bits / 8
    needed = sum(part.numel() for part in model.parameters()) * each
    there = _room(device)
    if there is not None and needed > there:
        raise ConfigError(
            f"the weights of model={config.model} in {str(dtype).removeprefix('torch.')} are "
            f"{needed / 1e9:.1f} GB, "
            f"and {device} has {there / 1e9:.1f} GB: choose a smaller one, or another dtype"
        )


def _room(device: torch.device) -> int | None:
    """Bytes of memory a device has; None where it is not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _settings(name: str, config: BenchConfig) -> PreTrainedConfig:
    if is_shape(name):
        if config.device_map is not None or config.bits is not None:
            raise ConfigError(
                f"device_map= and bits= are of checkpoints, and model={name} is made up on one "
                "device: leave them out"
            )
        return varied(name, shape_configuration(name), config)
    return configuration(name, config)


def _preparation(config: BenchConfig, settings: PreTrainedConfig) -> Preparation:
    """How videos are prepared: by the model's files, or as its family does where it has none.

    ConfigError where made-up features cannot stand for a video.
    """
    if is_shape(config.model):
        family = families()[settings.model_type]
        found = family.preparation(settings, shape_frames(config.model, family.reads))
    else:
        found = Processor.load(config.model, config).preparation
    if config.vision == RANDOM and found.sized:
        raise ConfigError(
            f"videos of {settings.model_type} have sizes of their own, which the vision tower is "
            f"told: leave vision={RANDOM} out"
        )
    return found


def load_average() -> list[float] | None:
    """Processes that wanted a core in the last 1, 5 and 15 minutes, ours included.

    None where they are not counted.
    """
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
