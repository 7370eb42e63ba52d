"""What carrying a pipeline costs a decoding step, on a model that is bound by Python and launches.

The narrow, deep toy on one core is bound by them as a 7B is on an accelerator: what a step
dispatches beyond the stock model's is counted, and the time of steps that take turns with the stock
model's is a ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from operator import truediv
from typing import Any, NamedTuple

import torch

from tokenprune.bench import toy
from tokenprune.bench.dispatch import Dispatched
from tokenprune.compat import caching, filled_cache
from tokenprune.loading.device import threads
from tokenprune.runtime.session import attach

WORD, WARM, COUNTED = 9, 2, 2


class Bar(NamedTuple):
    """The most that a kind of pipeline may cost, and a pipeline of that kind.

    Args:
        spec: the pipeline
        options: its options; a selection that is held, where the bar is for that
        operations: dispatched per step beyond the stock model's
        over_full: time of a step over that of the stock model
    """

    spec: str
    options: Mapping[str, Any]
    operations: int
    over_full: float


BARS = {
    "vision": Bar("visionzip", {}, 0, 1.02),
    "prefill": Bar("fastv", {}, 10, 1.05),
    "dycoke, held": Bar("dycoke", {"dycoke.threshold": -1.0}, 2 * toy.DEPTH, 1.15),
}


class Stepper:
    """A model that has read the toy's prompt, and decodes one word at a time.

    `gives` names what the caller passes besides the word and the cache: "position_ids",
    "attention_mask".
    """

    def __init__(
        self, model: Any, gives: tuple[str, ...] = ("position_ids",), frames: int = toy.FRAMES
    ) -> None:
        inputs = toy.prompt(frames)
        self._model, self._gives, self._seen = model, gives, inputs["input_ids"].shape[1]
        self._cache = filled_cache(model(**inputs, use_cache=True))

    def __call__(self) -> Any:
        word = torch.tensor([[WORD]])
        given = {"position_ids": torch.full_like(word, self._seen)}
        self._seen += 1
        given["attention_mask"] = torch.ones(1, self._seen, dtype=torch.long)
        chosen = {name: given[name] for name in self._gives}
        cache = caching(self._model, self._cache)
        return self._model(input_ids=word, use_cache=True, **cache, **chosen)


def counted(
    spec: str | None, options: Mapping[str, Any] | None = None, gives: tuple[str, ...] = ()
) -> float:
    """Operations that a step dispatches under a pipeline; None is the stock model."""
    block = nullcontext() if spec is None else attach(toy.toy(), spec, dict(options or {}))
    with torch.no_grad(), block:
        step = Stepper(toy.toy(), gives)
        for _ in range(WARM):
            step()
        with Dispatched() as dispatched:
            for _ in range(COUNTED):
                step()
    return dispatched.number("operations") / COUNTED


def extra(bar: Bar, gives: tuple[str, ...] = ()) -> float:
    """Operations of a step beyond the stock model's."""
    return counted(bar.spec, bar.options, gives) - counted(None, gives=gives)


def over_full(turns: int = 100) -> dict[str, float]:
    """Time of a step of each kind over that of the stock model, on one core: median of turns.

    Each turn begins with another one, so that a busy machine slows all alike.
    """
    with threads(1), torch.no_grad(), ExitStack() as stack:
        steps: dict[str, Stepper] = {"full": Stepper(toy.twin())}
        for name, bar in BARS.items():
            model = toy.twin()
            stack.enter_context(attach(model, bar.spec, dict(bar.options)))
            steps[name] = Stepper(model)
        times: dict[str, list[float]] = {name: [] for name in steps}
        names = list(steps)
        for turn in range(WARM + turns):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                begun = time.thread_time()
                steps[name]()
                if turn >= WARM:
                    times[name].append(time.thread_time() - begun)
    return {
        name: statistics.median(map(truediv, times[name], times["full"]))
        for name in names
        if name != "full"
    }


def steps_markdown() -> str:
    """The table of all kinds."""
    lines = ["| pipeline | operations beyond the stock step's | at most |", "|--|--:|--:|"]
    for name, bar in BARS.items():
        found = extra(bar, ("position_ids",))
        lines.append(f"| {name}: `{bar.spec}` | {found:g} | {bar.operations} |")
    return "\n".join(lines)
