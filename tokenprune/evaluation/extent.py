"""What a prompt is to a model whose weights are not read: its frames, cells and layers, and whether
they fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from tokenprune import tasks
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.base import context_of
from tokenprune.errors import ConfigError, PromptError
from tokenprune.loading.checkpoint import configuration, outline
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import STOCK, Variant
from tokenprune.strategy import Extent
from tokenprune.tasks import Task
from tokenprune.tasks.choice import asked

# questions: the longest ones; those of a task that draws its samples, which takes time
_MEASURED, _DRAWN = 8, 33


def extent_of(model: str, frames: int, variant: Variant = STOCK) -> Extent:
    """What an uncompressed prompt of `frames` frames is to `model`, whose weights are not read."""
    adapter = outline(configuration(model, variant))
    return Extent(frames, adapter.cells, adapter.depth)


def questions_of(task: Task, limit: int | None) -> Iterator[str]:
    """What the first `limit` samples ask; of a task that draws its samples the first few, since
    they are alike.
    """
    size = len(task) if limit is None else min(limit, len(task))
    for index in range(min(size, _DRAWN) if tasks.draws(task.name) else size):
        label = task.label(index)
        yield asked(label.question, label.options)


def longest_text(processor: Processor, questions: Iterable[str], adapter: VideoLLM) -> int:
    """Tokens of the longest prompt that asks one of `questions`, without its video.

    One that is not a prompt, or that leaves no room for a single frame, does not count: no smaller
    number of frames would help it, so that it is an error of its sample and not of the run.
    """
    context = context_of(adapter.model.config)
    room = float("inf") if context is None else context - adapter.cells - adapter.separators
    longest = (
        _text(processor, question) for question in sorted(set(questions), key=len, reverse=True)
    )
    return max(
        itertools.islice((text for text in longest if 0 < text < room), _MEASURED), default=0
    )


def _text(processor: Processor, question: str) -> int:
    try:
        return processor.text_tokens(question)
    except PromptError:
        return 0


def check_context(
    name: str, adapter: VideoLLM, frames: int, text: int, new_tokens: int, key: str = "frames"
) -> None:
    """ConfigError where the uncompressed prompt and its answer need more positions than the model
    was made for.

    `frames` is what a prompt has at most, under the name `key`, `text` its tokens beside the video,
    `new_tokens` the longest answer. Beyond its context a model answers, and its answers mean
    nothing: a full model there is no baseline.
    """
    limit = context_of(adapter.model.config)
    cells, rest = adapter.cells, adapter.separators + text + new_tokens
    if limit is None or frames * cells + rest <= limit:
        return
    fit = (limit - rest) // cells
    instead = f"write {key}={fit} or fewer" if fit > 0 else "write a smaller max_new_tokens="
    if fit > 0 and frames * cells + rest - limit < new_tokens:
        instead += f", or max_new_tokens={limit - frames * cells - rest + new_tokens}"
    raise ConfigError(
        f"{key}={frames} are {frames * cells:,} visual tokens ({cells} each); with "
        f"{text + adapter.separators} tokens "
        f"of text and answers of up to {new_tokens} they need {frames * cells + rest:,} positions, "
        "and the context of "
        f"{name} holds {limit:,}: {instead}"
    )
