"""A finished run as loggers take it: names with plain values, and numbers by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tokenprune.results import begun
from tokenprune.results.read import Run

_TIMES = ("answer_ms", "vision_ms", "strategy_ms", "probe_ms", "prefill_ms", "decode_ms_per_token")
_PLACE = ("command", "device", "device_name", "dtype", "git_revision", "versions", "batch_size")


def asked(run: Run) -> dict[str, Any]:
    """The run's keys, every option of each system, where it was made, and what to beware of with
    its models: names like `model`, `systems/strategy/dycoke/merge` and `environment/device`.
    """
    written, place = begun.whole(run.folder) or {}, run.summary.environment
    found = {
        **written.get("run", {}),
        "systems": written.get("systems", {}),
        "environment": {name: place.get(name) for name in _PLACE},
        "note": run.summary.setting.note,
    }
    return dict(_flat(found))


def samples(run: Run) -> Iterator[dict[str, float]]:
    """Of each sample, by names like `strategy/score`: scores, retention and milliseconds, where
    they are known.
    """
    for record in run.records:
        yield {
            f"{role}/{name}": float(value)
            for role in run.roles
            for name, value in _of_answer(record[role])
            if value is not None
        }


def figures(run: Run) -> dict[str, float]:
    """The columns of results that are numbers, by names like `summary/strategy/score`."""
    return {
        f"summary/{role}/{name}": float(value)
        for role, system in run.summary.systems.items()
        for name, value in system.as_dict().items()
        if isinstance(value, (int, float))
    }


def _of_answer(made: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "score", made["score"]
    yield "retention", made["tokens"].get("layer_average_ratio")
    for name in _TIMES:
        yield name, made["time"].get(name)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` as `a/b` and 1; what is not set is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")
        elif isinstance(value, (list, tuple)) and value:
            yield f"{before}{name}", ", ".join(map(str, value))
        elif value not in (None, "", [], ()):
            yield f"{before}{name}", value
