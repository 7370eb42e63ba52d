"""`ask`: many questions about one video, which the vision tower looks at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import PreTrainedModel

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.adapters.context import context_of
from tokenprune.asking.models import note, whole
from tokenprune.asking.replies import Replies, Reply
from tokenprune.errors import PromptError, StrategyError
from tokenprune.evaluation.config import FILE_FRAMES, LONGEST
from tokenprune.evaluation.generate import answered
from tokenprune.evaluation.retention import retaining
from tokenprune.loading.checkpoint import Loaded
from tokenprune.loading.media import Medium
from tokenprune.loading.processor import GREEDY, Processor
from tokenprune.loading.prompts import Seen
from tokenprune.loading.video import Clip, read_clip
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.session import attach
from tokenprune.strategy import Extent, Pipeline


def ask(
    model: Loaded | PreTrainedModel | tuple[Any, Any] | str | Path,
    video: str | Path | Clip | UInt8[Tensor, "f h w 3"] | Any,
    questions: str | Sequence[str],
    strategy: str | Pipeline = "none",
    *,
    options: registry.Options | None = None,
    keep: float | None = None,
    frames: int = FILE_FRAMES,
    max_new_tokens: int = LONGEST,
    assistant: Loaded | PreTrainedModel | None = None,
) -> Replies:
    """Answers to one or many questions about one video, greedily, one after another.

    The video is decoded, prepared and seen by the vision tower once. Strategies at the language
    model's input that read neither the question nor an allocator's weights run once, too; what is
    left of the video is the same for every question. The others, and all stages inside the model,
    run for each question, and every answer is what the question gets alone.

    Args:
        model: what `tokenprune.load` returns, a name, or a stock model of transformers
        video: a file, or frames: uint8, RGB, all of which are shown
        strategy: methods joined by `+`, or `none`
        options: of strategies, as `{"dycoke.merge": 0.5}`
        keep: visual tokens left, a fraction, mean over LLM layers; the strategy's own by default
        frames: of a file, spread evenly
        max_new_tokens: longest answer, in tokens
        assistant: a smaller model of the same family that weighs frames for an allocator

    Raises TokenpruneError: of a question that is no prompt, before any is answered.
    """
    given = [questions] if isinstance(questions, str) else [*questions]
    if not given:
        raise PromptError("there is no question: write one, or a list of them")
    model, processor = whole(model)
    clip = _clip(video, frames)
    seen = processor.look(Medium(clip.frames, clip.times))
    prompts = [*_prompts(model, processor, seen, clip, given, max_new_tokens)]
    pipeline = _pipeline(strategy, options, keep, model, seen[0])
    guide = assistant[0] if isinstance(assistant, tuple) else assistant
    adapter = adapt(model)
    replies: list[Reply] = []
    with attach(model, pipeline, assistant=guide, timed=True) as session:
        shown = session.encode(**_moved(processor.media([seen]), adapter.device))
        settings = {"max_new_tokens": max_new_tokens, **GREEDY}
        for question, words in zip(given, prompts, strict=True):
            inputs = {**_moved(words, adapter.device), **shown}
            clock = Clock(adapter.devices, on=True)
            made = answered(session, model, processor, inputs, settings, clock)
            replies.append(Reply(question, made.texts[0], made.report[0], made.time))
    return Replies(
        tuple(replies), str(pipeline), clip.frames, clip.times, note(model, guide), processor.pixels
    )


def _clip(video: Any, frames: int) -> Clip:
    """The frames that are shown. Raises VideoError, PromptError."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, str | Path):
        return read_clip(video, frames)
    shown = torch.as_tensor(video)
    if shown.ndim != 4 or shown.shape[-1] != 3 or shown.dtype != torch.uint8 or not len(shown):
        raise PromptError(
            f"a video is a file, or frames as uint8 [frames, height, width, 3], not "
            f"{str(shown.dtype).removeprefix('torch.')} {[*shown.shape]}"
        )
    return Clip(shown, None, tuple(range(len(shown))))


def _prompts(
    model: PreTrainedModel,
    processor: Processor,
    seen: Sequence[Seen],
    clip: Clip,
    questions: Sequence[str],
    longest: int,
) -> Iterator[dict[str, Tensor]]:
    """The words of each prompt. PromptError where one does not fit the model's context."""
    context = context_of(model.config)
    for question in questions:
        words = processor.words([seen], [processor.told(question, clip.times, clip.duration)])
        needed = words["input_ids"].shape[1] + longest
        if context is not None and needed > context:
            raise PromptError(
                f"video, question and an answer of up to {longest} tokens need {needed:,} "
                f"positions, and the model's context holds {context:,}: show fewer frames"
            )
        yield words


def _pipeline(
    strategy: str | Pipeline,
    options: registry.Options | None,
    keep: float | None,
    model: PreTrainedModel,
    seen: Seen,
) -> Pipeline:
    """What compresses the video `seen`. Raises StrategyError, ConfigError."""
    if isinstance(strategy, Pipeline) and options:
        raise StrategyError("options go with a spec string: a pipeline already has its fields")
    pipeline = strategy if isinstance(strategy, Pipeline) else registry.build(strategy, options)
    if keep is None:
        return pipeline
    video = seen.shown.video
    extent = Extent(video.frames, video.cells, adapt(model).depth)
    return retaining(pipeline, keep, extent, options or ())


def _moved(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: part.to(device) for name, part in tensors.items()}
