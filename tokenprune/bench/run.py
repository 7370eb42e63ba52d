"""A bench from its words to its files: all systems take turns, so that a busy machine slows all of
them alike.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedModel

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.bench import memory
from tokenprune.bench.chart import chart
from tokenprune.bench.config import BenchConfig
from tokenprune.bench.inputs import Material, prepare
from tokenprune.bench.measure import Attached, Dense, Reading, System, settled
from tokenprune.bench.oracle import oracle, widths
from tokenprune.bench.plan import Plan, lay_out, load_average
from tokenprune.bench.rows import Turns, row
from tokenprune.bench.shapes import is_shape
from tokenprune.errors import ConfigError
from tokenprune.loading.device import cores
from tokenprune.registry import resolved_fields
from tokenprune.results.record import environment
from tokenprune.storage import whole_folder

JSON, CHART = "bench.json", "bench.png"


@dataclass(frozen=True)
class Done:
    """A bench that is on disk."""

    folder: Path
    config: BenchConfig
    result: dict[str, Any]


def bench(config: BenchConfig, command: str) -> Done:
    """Measures, and writes `bench.json` and `bench.png` into `out=`; if it fails nothing is left.

    Raises ConfigError, StrategyError, LoadingError, UnsupportedModelError, VideoError, OSError.
    """
    plan = lay_out(config)
    with whole_folder(config.out) as (draft, final):
        try:
            result = _measure(plan, command)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"model={config.model} with frames={config.frames} batch={config.batch} does not "
                f"fit on {plan.device}: "
                "ask for fewer frames, a smaller batch, dtype=bfloat16 or a smaller model"
            ) from None
        try:
            content = json.dumps(result, indent=1, allow_nan=False) + "\n"
        except ValueError:
            raise ConfigError(
                "a measured figure is infinite or no number: measure again, with more repeats="
            ) from None
        (draft / JSON).write_text(content, encoding="utf-8")
        chart(result, draft / CHART)
    return Done(final, config, result)


def _measure(plan: Plan, command: str) -> dict[str, Any]:
    config = plan.config
    before = load_average()
    model, assistant, pixels = plan.models()
    material = prepare(config, adapt(settled(model)), pixels)
    if assistant is not None:
        material.idle = memory.weights([assistant])
    systems, lines = _systems(plan, material, assistant)
    taken = _turns(systems, config)
    guide = None if assistant is None else assistant.config
    rows = []
    for spec, names in lines.items():
        readings = {line: taken[name] for line, name in names.items()}
        narrow = {
            system.width: taken[name]
            for name, system in systems.items()
            if isinstance(system, Dense)
        }
        readings["oracle"] = [
            oracle(own, {width: found[turn] for width, found in narrow.items()}, config.new_tokens)
            for turn, own in enumerate(readings["own"])
        ]
        rows.append(row(Turns(spec, readings, guide), material, config.new_tokens))
    place = environment(material.adapter.device, material.adapter.model.dtype, command)
    return {
        "environment": {
            **place,
            "model": config.model,
            "assistant": config.assistant,
            "weights": "random" if is_shape(config.model) else "checkpoint",
            "vision": config.vision,
            "video": config.video
            or (None if material.pixels is None else "made up, 640x360, H.264"),
            "frames": material.frames,
            "tokens_per_frame": material.adapter.cells,
            "batch": config.batch,
            "text_tokens": config.text,
            "ragged": config.ragged,
            "mean_text_tokens": material.text,
            "new_tokens": config.new_tokens,
            "repeats": config.repeats,
            "warmup": config.warmup,
            "keep": config.keep,
            "strategies": {
                spec: resolved_fields(pipeline) for spec, pipeline in plan.pipelines.items()
            },
            "memory_method": memory.METHODS.get(material.adapter.device.type),
            "cores": cores(),
            "load_before": before,
            "load_after": load_average(),
        },
        "rows": rows,
    }


def _systems(
    plan: Plan, material: Material, assistant: PreTrainedModel | None
) -> tuple[dict[str, System], dict[str, dict[str, str]]]:
    """All systems by name, and for each strategy the names of its lines; a first pass says what
    each strategy keeps.
    """
    tokens, seed = plan.config.new_tokens, plan.config.seed
    full = Dense(material, tokens, material.full)
    systems: dict[str, System] = {"full": full}
    lines: dict[str, dict[str, str]] = {}
    for spec, pipeline in plan.pipelines.items():
        own = Attached(material, tokens, pipeline, assistant)
        systems[f"own {spec}"] = own
        first = own.turn()
        for width in sorted(widths(first) - {material.full}):
            systems.setdefault(f"dense {width}", Dense(material, tokens, width))
        keep = min(1.0, statistics.fmean(first.layers) / material.full)
        control = registry.build("random", {"random.keep": keep, "random.seed": seed})
        systems.setdefault(f"random {keep!r}", Attached(material, tokens, control))
        lines[spec] = {"full": "full", "random": f"random {keep!r}", "own": f"own {spec}"}
    return systems, lines


def _turns(systems: Mapping[str, System], config: BenchConfig) -> dict[str, list[Reading]]:
    """Measured readings of every system by name.

    Each turn begins with another system: no place in it is the best.
    """
    taken: dict[str, list[Reading]] = {name: [] for name in systems}
    names = list(systems)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("turns", total=len(names) * (config.warmup + config.repeats))
        for turn in range(config.warmup + config.repeats):
            for name in _rotated(names, turn):
                if turn < config.warmup:
                    systems[name].warm_up()
                else:
                    taken[name].append(systems[name].turn())
                progress.advance(task)
    for name, readings in taken.items():
        if any(reading.layers != readings[0].layers for reading in readings):
            raise ConfigError(
                f"{name} kept different numbers of tokens in different turns, which cannot be "
                "compared"
            )
    return taken


def _rotated(names: Sequence[str], turn: int) -> list[str]:
    start = turn % len(names)
    return [*names[start:], *names[:start]]
