"""A video prompt before it enters the language model: frames are weighed, vision stages run.

Axes: `b` samples, `m` columns that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import Cache

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.rows import Pattern
from tokenprune.runtime.attention import flat_mask
from tokenprune.runtime.cache import CompressedLayer, compressed_cache
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.compress import Weights, compress
from tokenprune.runtime.entering import entering, kept_blocks
from tokenprune.runtime.fixed_cache import FixedLayer, fixed_layers
from tokenprune.runtime.fixed_hiding import HeldLayer
from tokenprune.runtime.guide import Shown
from tokenprune.runtime.layout import Layout
from tokenprune.runtime.media import VideoPrompt
from tokenprune.runtime.partitioned_cache import PartitionedLayer
from tokenprune.runtime.prefill import Attached, Prefill
from tokenprune.runtime.probe import weigh
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.report import Report, SampleReport
from tokenprune.runtime.seen import Seen
from tokenprune.runtime.tower import Sight, TowerReading, matching
from tokenprune.strategy import Pipeline, PrefillStage
from tokenprune.tokens import TEXT


def cache_to_fill(adapter: VideoLLM, given: dict[str, Any], pipeline: Pipeline) -> Cache | None:
    """The cache that a prompt fills: the caller's own, or a new one. None if nothing is cached."""
    use_cache, cache = given.get("use_cache"), compat.given_cache(given)
    if use_cache is None:
        use_cache = adapter.text_config.use_cache
    wanted = cache is not None or use_cache
    if not wanted or compat.checkpoints(adapter.layers[0]):
        return None
    stage, columns = pipeline.decode_stage, given["inputs_embeds"].shape[1]
    layer = CompressedLayer if stage is None else partial(PartitionedLayer, stage.offload)
    windows = [adapter.window(number) for number in range(adapter.depth)]
    fixed = partial(fixed_layers, sent=columns, layer=HeldLayer if stage else FixedLayer)
    if stage is not None and (stage.offload or pipeline.of(PrefillStage)):
        fixed = None
    return compressed_cache(cache, adapter.depth, layer, windows, fixed)


def begin(
    attached: Attached,
    video: VideoPrompt,
    given: dict[str, Any],
    seen: Seen,
    clock: Clock,
    cache: Cache | None,
) -> tuple[Prefill, dict[str, Any]]:
    """Weighs frames and runs the vision stages of a prompt that is about to enter.

    Returns the pass, and the language model's arguments in place of `given`.
    """
    adapter, pipeline, readings = attached.adapter, attached.pipeline, seen.readings
    layout = _layout(adapter, video, given, readings)
    blocks = adapter.blocks(video.given)
    report = Report(empty_reports(layout, adapter.pattern), clock)
    reading = matching(readings, layout)
    weights: Weights = {}
    if (allocator := pipeline.allocator) is not None:

        def see() -> Shown:
            return guide.see(layout, given, video.input_ids, reading, blocks)

        guide = attached.guide
        weights, report.probe = weigh(allocator, guide, layout, see, clock)
    if not pipeline.at_input:
        prompt = PromptState(layout, report)
        phase = Prefill(attached, prompt, given, blocks, weights, cache)
        return phase, _masked(adapter, given, blocks)
    sight = Sight(given["inputs_embeds"], layout, readings, pipeline, adapter.project)
    videos = [unit for unit in layout.units if not unit.image]
    known = {} if pipeline.reads_question else seen.known(videos)
    embeds = given["inputs_embeds"]
    lines = adapter.lines
    left, chosen = compress(pipeline, embeds, layout, sight, weights, lines, known, report.promises)
    known |= {unit: chosen[unit] for unit in videos}
    for sample, samples_report in enumerate(report.samples):
        if samples_report is not None:
            own = [unit for unit in layout.units if unit.sample == sample]
            samples_report.note([chosen[unit][1] for unit in own])
            if any(adapter.lines(video) is not None for video in layout.videos[sample]):
                beside = samples_report.beside[0]
                own_text = [one.text(sample) for one in (layout, left.layout)]
                samples_report.beside = beside, beside - own_text[0] + own_text[1]
            samples_report.members = [left.members[u] for u in own if u in left.members]
    anew = pipeline.input_positions(adapter.positions) == "contiguous"
    shift = left.removed if anew else None
    prompt = PromptState(left.layout, report, layout.width, left.columns, shift)
    prompt.counts = left.counts
    prompt.tokens[0] = {unit: sum(counts) for unit, counts in left.counts.items()}
    given = entering(adapter, given, layout, left, anew)
    if blocks is not None:
        blocks = kept_blocks(blocks, left.columns.on(blocks.device), left.layout)
    return Prefill(attached, prompt, given, blocks, weights, cache), _masked(adapter, given, blocks)


def _masked(
    adapter: VideoLLM, given: dict[str, Any], blocks: Int[Tensor, "b m"] | None
) -> dict[str, Any]:
    """With the mask in the form that the language model takes."""
    mask = adapter.prompt_mask(given["inputs_embeds"], given.get("attention_mask"), blocks)
    return {**given, "attention_mask": mask}


def _layout(
    adapter: VideoLLM, video: VideoPrompt, given: dict[str, Any], readings: Sequence[TowerReading]
) -> Layout:
    """The uncompressed layout, on the device of the embeddings."""
    real, (videos, *pictures) = video.read(flat_mask(given.get("attention_mask")))
    shown = [reading.videos for reading in readings]
    rows, images = adapter.rows(videos, video.given, shown), None
    if pictures:
        images = adapter.image_rows(pictures[0], video.given, shown)
    adapter.check(given, rows)
    return Layout.of(rows, real, given["inputs_embeds"].device, images)


def empty_reports(layout: Layout, pattern: Pattern) -> list[SampleReport | None]:
    """One for every sample that holds a video."""
    reports: list[SampleReport | None] = []
    for videos in layout.videos:
        beside = sum(int((np.asarray(pattern(video)) == TEXT).sum()) for video in videos)
        reports.append(SampleReport(videos, (beside, beside)) if videos else None)
    return reports
