"""What a prompt is to a model whose weights are not read: its frames, cells and layers, and whether
they fit.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedConfig

from tokenprune import tasks
from tokenprune.adapters import families
from tokenprune.adapters.context import context_of
from tokenprune.adapters.preparation import Preparation
from tokenprune.errors import ConfigError, PromptError
from tokenprune.loading.processor import ONE, Processor
from tokenprune.strategy import Extent
from tokenprune.tasks import Task
from tokenprune.tasks.choice import asked
from tokenprune.tokens import Video

# questions: the longest ones; those of a task that draws its samples, which takes time
_MEASURED, _DRAWN = 8, 33
_SIZE = (360, 640)  # height and width of frames where none are known


@dataclass(frozen=True)
class Uncompressed:
    """Prompts as they are to a model before anything is left out.

    `size` is the height and width of frames in pixels, on which their tokens depend in some
    families.
    """

    config: PreTrainedConfig
    preparation: Preparation
    size: tuple[int, int] = _SIZE

    def video(self, frames: int) -> Video:
        """A video of so many frames at the LLM's input."""
        return self.preparation.video(frames, *self.size)

    def extent(self, frames: int) -> Extent:
        """A prompt with a video of so many frames."""
        video = self.video(frames)
        return Extent(video.frames, video.cells, self.config.get_text_config().num_hidden_layers)

    def rows(self, frames: int) -> int:
        """Rows of such a video: its tokens, and what the model adds to them."""
        return self.preparation.rows(self.video(frames))


def seen_by(config: PreTrainedConfig, preparation: Preparation | None = None) -> Uncompressed:
    """Prompts of a model without files, with its family's own preparation."""
    own = preparation or families()[config.model_type].preparation(config, {})
    return Uncompressed(config, own)


def uncompressed(
    config: PreTrainedConfig, processor: Processor, task: Callable[[], Task]
) -> Uncompressed:
    """Prompts of a checkpoint about a task's videos, the first of which tells their size.

    Only where that matters is the task made, and the video decoded.
    """
    if not processor.preparation.sized:
        return seen_by(config, processor.preparation)
    _, height, width, _ = task()[0].frames.shape
    return Uncompressed(config, processor.preparation, (height, width))


def questions_of(task: Task, limit: int | None) -> Iterator[str]:
    """What the first `limit` samples ask; of a task that draws its samples the first few, since
    they are alike.
    """
    size = len(task) if limit is None else min(limit, len(task))
    for index in range(min(size, _DRAWN) if tasks.draws(task.name) else size):
        label = task.label(index)
        yield asked(label.question, label.options)


def longest_text(
    processor: Processor, questions: Iterable[str], seen: Uncompressed, frames: int
) -> int:
    """Tokens of the longest prompt that asks one of `questions`, without its visual ones.

    One that is not a prompt, or that leaves no room for a single frame, does not count: no smaller
    number of frames would help it, so that it is an error of its sample and not of the run. What is
    written between frames is that of a video of `frames` frames.
    """
    context = context_of(seen.config)
    room = float("inf") if context is None else context - seen.rows(1)
    longest = (
        _text(processor, question) for question in sorted(set(questions), key=len, reverse=True)
    )
    alone = max(
        itertools.islice((text for text in longest if 0 < text < room), _MEASURED), default=0
    )
    times = [100.0 + number for number in range(frames)]  # as long to write as those of minutes
    written = processor.told(".", times, 100.0 + frames)
    between = _text(processor, written, seen.video(frames)) - _text(processor, ".")
    return alone + between


def _text(processor: Processor, question: str, video: Video = ONE) -> int:
    try:
        return processor.text_tokens(question, video)
    except PromptError:
        return 0


def check_context(
    name: str, seen: Uncompressed, frames: int, text: int, new_tokens: int, key: str = "frames"
) -> None:
    """ConfigError where the uncompressed prompt and its answer need more positions than the model
    was made for.

    `frames` is what a prompt has at most, under the name `key`, `text` its tokens beside the video,
    `new_tokens` the longest answer. Beyond its context a model answers, and its answers mean
    nothing: a full model there is no baseline.
    """
    limit = context_of(seen.config)
    rest = text + new_tokens
    needed = seen.rows(frames) + rest
    if limit is None or needed <= limit:
        return
    fit = bisect_right(range(1, frames + 1), limit - rest, key=seen.rows)
    instead = f"write {key}={fit} or fewer" if fit > 0 else "write a smaller max_new_tokens="
    if fit > 0 and needed - limit < new_tokens:
        instead += f", or max_new_tokens={limit - needed + new_tokens}"
    video = seen.video(frames)
    each = f"{video.cells} each"
    if video.frames != frames:
        each = f"{video.cells} for each of {video.frames} groups of frames"
    beside = seen.rows(frames) - video.tokens + text
    raise ConfigError(
        f"{key}={frames} are {video.tokens:,} visual tokens ({each}); with {beside} tokens "
        f"of text and answers of up to {new_tokens} they need {needed:,} positions, "
        "and the context of "
        f"{name} holds {limit:,}: {instead}"
    )
