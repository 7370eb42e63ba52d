"""A benchmark's own figures, aggregated by lmms-eval's code from what it made of the answers."""

from __future__ import annotations

import dis
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from tokenprune.tasks.lmms.chance import seeded
from tokenprune.tasks.lmms.manners import quiet

_ARGUMENTS = "args"  # what lmms-eval calls its own


def figures(
    subtasks: Sequence[Any], tree: Mapping[Any, Any], judged: Sequence[Sequence[Any]]
) -> dict[str, float]:
    """By `metric`, or `task/metric` of a group, whose own come before those of its tasks.

    `judged` is what was made of each subtask's answers. A metric that writes a file for submission
    has no figure. One that fails, on too few answers for instance, is left out with a warning.
    """
    from lmms_eval.evaluator_utils import (  # pyright: ignore[reportMissingImports]
        TaskOutput,
        consolidate_group_results,
        consolidate_results,
    )

    outputs = []
    for subtask, answers in zip(subtasks, judged, strict=True):
        output = TaskOutput.from_taskdict(subtask.name, subtask.task)
        for one in answers:
            for name, values in one.results.items():
                for metric, value in values.items():
                    output.sample_metrics[metric, name].append(value)
        _figures(output)
        outputs.append(output)
    with quiet():
        results, _, _, versions, *_ = consolidate_results(outputs)
        results, *_ = consolidate_group_results(results, versions, dict(tree))
    leaves = {subtask.name for subtask in subtasks}
    ordered = sorted(results.items(), key=lambda named: named[0] in leaves)
    single = len(subtasks) == 1 and len(results) == 1
    return {
        (key if single else f"{task}/{key}"): float(value)
        for task, values in ordered
        for metric, value in values.items()
        if "," in metric and "_stderr" not in metric and isinstance(value, Real)
        for key in [metric.removesuffix(",none")]
    }


def submits(aggregate: Callable[..., Any]) -> bool:
    """Whether an aggregation reads lmms-eval's own arguments, as those do that write a file.

    Many take them and look at none.
    """
    if not _takes_arguments(aggregate):
        return False
    inner: Any = aggregate
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner):  # an object that can be called: nobody knows
        return True
    read = (step.argval for step in dis.get_instructions(inner) if "STORE" not in step.opname)
    return any(name == _ARGUMENTS or _ARGUMENTS in _tuple(name) for name in read)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _takes_arguments(aggregate: Callable[..., Any]) -> bool:
    try:
        return _ARGUMENTS in inspect.signature(aggregate).parameters
    except ValueError:  # built in
        return False


def _figures(output: Any) -> None:
    """Aggregates each metric by itself, so that one without a figure does not cost the others
    theirs.
    """
    for (metric, name), values in list(output.sample_metrics.items()):
        aggregate = output.task.aggregation().get(metric)
        if aggregate is None or submits(aggregate):
            del output.sample_metrics[metric, name]
            continue
        said = {_ARGUMENTS: None} if _takes_arguments(aggregate) else {}
        try:
            with quiet(), seeded(f"{output.task_name}/{metric}"):
                output.agg_metrics[f"{metric},{name}"] = aggregate(values, **said)
        except Exception as error:  # somebody else's code
            warnings.warn(
                f"lmms-eval's {metric} of {output.task_name} has no figure: {error}", stacklevel=2
            )
            del output.sample_metrics[metric, name]
        output.agg_metrics[f"{metric}_stderr,{name}"] = "N/A"
        output.sample_len = len(values)
