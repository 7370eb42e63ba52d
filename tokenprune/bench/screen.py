"""The results of a bench in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.bench.reading import TIMES
from tokenprune.bench.run import CHART, JSON, Done

_HEADING = (
    "system", "tokens\nlayer avg", "vision\nms", "strategy\nms", "probe\nms", "prefill\nms",
    "TTFT\nms", "decode\nms/token", "total\nms", "peak\nMB", "KV\nMB", "papers\nGFLOPs",
    "exact\nGFLOPs",
)  # fmt: skip
_RATIOS = (
    "strategy", "prefill\nspeed-up", "x oracle\nprefill", "strategy /\nfull prefill",
    "TTFT\nspeed-up", "x full\ndecode", "x oracle\ndecode", "x oracle\nmemory",
    "prefill left, papers\nFLOPs", "exact\nFLOPs", "measured\ntime",
)  # fmt: skip


def measured(done: Done) -> RenderableType:
    """Everything `tokenprune bench` prints at the end."""
    rows, where = done.result["rows"], done.result["environment"]
    systems = _table(_HEADING)
    systems.add_row("full model", *_numbers(rows[0]["vanilla"]))
    for row in rows:
        systems.add_section()
        for name, line in (
            (row["spec"], "strategy"),
            ("  dense oracle", "oracle"),
            ("  random", "random"),
        ):
            systems.add_row(Text(name), *_numbers(row[line]))
    headline = _table(_RATIOS)
    for row in rows:
        headline.add_row(Text(row["spec"]), *_headline(row["ratios"]))
    notes = (*_choices(rows, where), *_notes(where))
    return Group(
        systems,
        headline,
        *(Text(line, style="dim", overflow="fold") for line in notes),
        Text(f"Results in {done.folder}: {JSON}, {CHART}", overflow="fold"),
    )


def _table(headings: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _numbers(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"{figures['layer_average_tokens']:.0f}"
    for name in TIMES:
        yield f"{figures[name]:.1f}"
    peak = figures["peak_memory_bytes"]
    yield "-" if peak is None else f"{peak / 1e6:.0f}"
    yield f"{figures['kv_bytes'] / 1e6:.1f}"
    yield f"{figures['papers_flops'] / 1e9:.4g}"
    yield f"{figures['exact_flops'] / 1e9:.4g}"


def _headline(ratios: Mapping[str, Any]) -> Iterator[str]:
    yield f"{ratios['prefill_speedup']:.2f}x"
    yield f"{ratios['prefill_over_oracle']:.2f}"
    yield f"{100 * ratios['strategy_over_vanilla_prefill']:.1f} %"
    yield f"{ratios['ttft_speedup']:.2f}x"
    yield f"{ratios['decode_over_vanilla']:.2f}"
    yield f"{ratios['decode_over_oracle']:.2f}"
    memory = ratios["memory_over_oracle"]
    yield "-" if memory is None else f"{memory:.2f}"
    for name in (
        "papers_prefill_over_vanilla",
        "exact_prefill_over_vanilla",
        "prefill_over_vanilla",
    ):
        yield f"{100 * ratios[name]:.1f} %"


def _choices(rows: Sequence[Mapping[str, Any]], where: Mapping[str, Any]) -> Iterator[str]:
    """How often decode stages chose anew, and what a probe costs."""
    for row in rows:
        strategy = row["strategy"]
        if (changes := strategy["decode_selection_changes"]) is not None:
            yield (
                f"{row['spec']}: its selection changed in {changes} of "
                f"{where['new_tokens'] - 1} decoding steps."
            )
        if probe := strategy["probe_ms"]:
            without = row["ratios"]["prefill_speedup_without_probe"]
            yield (
                f"{row['spec']}: its probe took {probe:.1f} ms; prefill speed-up without it "
                f"{without:.2f}x."
            )


def _notes(where: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, and what the tables cannot say."""
    made_up = where["vision"] == "random"
    seen = "made-up features (no tower)" if made_up else f"video {where['video']}"
    source = "with random weights" if where["weights"] == "random" else "from its checkpoint"
    yield (
        f"{where['model']} {source}, {where['dtype']} on {where['device_name']} "
        f"({where['threads']} threads), {seen}: "
        f"{where['frames']} frames of {where['tokens_per_frame']} tokens, batch {where['batch']}, "
        f"{where['text_tokens']} text tokens, {where['new_tokens']} new ones, {where['repeats']} "
        "turns."
    )
    yield (
        "Times: medians, of the whole batch. Ratios: medians over turns; prefill ratios include "
        "the strategy's time. "
        "Oracle: the stock model given as many visual tokens, put together per layer where their "
        "number changes. "
        "FLOPs: multiply-adds per sample, of prefill and decoding."
    )
    if where["memory_method"] is not None:
        yield f"Peak memory: {where['memory_method']}."
    if where["load_before"] is not None:
        yield _load(where)


def _load(where: Mapping[str, Any]) -> str:
    before, after, cores = where["load_before"][0], where["load_after"][0], where["cores"]
    told = f"Load of the machine: {before} before, {after} after, {cores} cores."
    if max(before, after - 1) > cores:
        return f"{told} It was busy: measure again when it is not."
    return told
