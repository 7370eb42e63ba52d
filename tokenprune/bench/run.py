"""A bench from its words to its files."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokenprune import compat
from tokenprune.adapters import adapt
from tokenprune.bench import memory
from tokenprune.bench.chart import chart
from tokenprune.bench.config import DYNAMIC, BenchConfig
from tokenprune.bench.inputs import Inputs, prepare
from tokenprune.bench.limits import Limits
from tokenprune.bench.machine import Machine, rates
from tokenprune.bench.measure import settled
from tokenprune.bench.plan import Plan, load_average, plan_bench
from tokenprune.bench.rows import row
from tokenprune.bench.shapes import is_shape
from tokenprune.bench.turns import line_up, lines_of, take_turns
from tokenprune.errors import ConfigError, UnsupportedGenerationError
from tokenprune.loading.device import cores
from tokenprune.registry import resolved_fields
from tokenprune.results.record import environment
from tokenprune.storage import whole_folder

JSON, CHART = "bench.json", "bench.png"
GRAPHS = 8  # of a strategy, of its random control and of its dense runs, at most


@dataclass(frozen=True)
class Done:
    """A bench that is on disk."""

    folder: Path
    result: dict[str, Any]


def bench(config: BenchConfig, command: str) -> Done:
    """Measures, and writes `bench.json` and `bench.png` into `out=`; if it fails nothing is left.

    Raises TokenpruneError, OSError.
    """
    plan = plan_bench(config)
    memory.release()
    with whole_folder(config.out) as (draft, final):
        try:
            with _compiling(plan):
                result = _measure(plan, command)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"model={config.model} with frames={config.frames} batch={config.batch} does not "
                f"fit on {plan.device}: "
                "ask for fewer frames, a smaller batch, dtype=bfloat16 or a smaller model"
            ) from None
        except UnsupportedGenerationError as error:
            raise ConfigError(f"cache={config.cache} does not go with it: {error}") from None
        try:
            content = json.dumps(result, indent=1, allow_nan=False) + "\n"
        except ValueError:
            raise ConfigError(
                "a measured figure is infinite or not a number: measure again, with more repeats="
            ) from None
        (draft / JSON).write_text(content, encoding="utf-8")
        chart(result, draft / CHART)
    return Done(final, result)


def _compiling(plan: Plan) -> AbstractContextManager[Any]:
    """Where steps may be compiled, room for the graphs of every candidate."""
    if plan.config.cache == DYNAMIC:
        return nullcontext()
    return compat.graphs(GRAPHS * (1 + len(plan.pipelines)))


def _measure(plan: Plan, command: str) -> dict[str, Any]:
    config, before = plan.config, load_average()
    model, assistant = plan.models()
    idle = 0 if assistant is None else memory.weights([assistant])
    inputs = prepare(config, adapt(settled(model, config.cache)), plan.preparation, idle)
    lineup = line_up(plan.pipelines, inputs, config.new_tokens, config.seed, assistant)
    measured = list[dict[str, float]]()
    readings = take_turns(
        lineup.candidates,
        config.warmup,
        config.repeats,
        between=lambda: measured.append(rates(inputs.adapter.device, model.dtype)),
    )
    limits = Limits.of(inputs.adapter, Machine.of(measured), config.batch)
    guide = None if assistant is None else assistant.config
    rows = [
        row(spec, lines, inputs, config.new_tokens, guide, limits)
        for spec, lines in lines_of(lineup, readings, config.new_tokens).items()
    ]
    load = {"load_before": before, "load_after": load_average()}
    where = {**_environment(plan, inputs, command), **load, "machine": limits.machine.as_dict()}
    return {"environment": where, "rows": rows}


def _environment(plan: Plan, inputs: Inputs, command: str) -> dict[str, Any]:
    """The machine, and what was measured on it."""
    config, adapter = plan.config, inputs.adapter
    made_up = "made up, 640x360, H.264" if inputs.media else None
    pipelines = plan.pipelines.items()
    return {
        **environment(adapter.device, adapter.model.dtype, command),
        "model": config.model,
        "assistant": config.assistant,
        "weights": "random" if is_shape(config.model) else "checkpoint",
        "vision": config.vision,
        "video": config.video or made_up,
        "frames": inputs.frames,
        # fewer than frames where the tower takes several of them at once
        "llm_frames": inputs.video.frames,
        "tokens_per_frame": inputs.video.cells,
        "batch": config.batch,
        "text_tokens": config.text,
        "ragged": config.ragged,
        "mean_text_tokens": inputs.text,
        "new_tokens": config.new_tokens,
        "cache": config.cache,
        "repeats": config.repeats,
        "warmup": config.warmup,
        "keep": config.keep,
        "strategies": {spec: resolved_fields(pipeline) for spec, pipeline in pipelines},
        "memory_method": memory.METHODS.get(adapter.device.type),
        "cores": cores(),
    }
