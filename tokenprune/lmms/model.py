"""`lmms-eval --model tokenprune`: a compressed model in lmms-eval's own evaluator.

Imported by lmms-eval only, once the model is asked for.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from lmms_eval.models.model_utils.gen_metrics import log_metrics  # pyright: ignore[reportMissingImports]
from loguru import logger  # pyright: ignore[reportMissingImports]
from tqdm import tqdm

from tokenprune.adapters import adapt
from tokenprune.errors import LmmsError, VideoError
from tokenprune.evaluation import fitting
from tokenprune.evaluation.extent import check_context, seen_by
from tokenprune.evaluation.generate import generate
from tokenprune.lmms import MODEL
from tokenprune.lmms.arguments import Arguments
from tokenprune.loading.checkpoint import configuration, load
from tokenprune.loading.media import Media, Medium
from tokenprune.loading.processor import GREEDY
from tokenprune.options import AUTO, Size
from tokenprune.tasks.lmms import judges
from tokenprune.tasks.lmms.media import shown_of, visuals_of

# what a task may set; the rest of its generation_kwargs is for other models, and `until` is what
# ends their answers
_PASSED = (
    "do_sample",
    "num_beams",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "max_new_tokens",
)
_DROPPED = ("until", "image_aspect_ratio")


class TokenPrune(lmms):
    """A model under a pipeline. Each batch runs inside its own `attach`: between batches the model
    is stock.

    `words` are those of `Arguments`. Raises LmmsError, StrategyError, LoadingError and
    UnsupportedModelError.
    """

    is_simple = True  # takes lmms-eval's plain requests, not its chat messages

    def __init__(
        self,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **words: Any,
    ) -> None:
        super().__init__()
        asked = _size(batch_size)
        self.arguments = arguments = Arguments.parse(words)
        self.pipeline = self.arguments.pipeline()
        place = _place(device or "auto")
        self._check_context()
        self._model, self.processor = load(arguments.pretrained, arguments.dtype, place, arguments)
        self._assistant = None
        if arguments.assistant is not None:
            self._assistant, _ = load(arguments.assistant, arguments.dtype, place, arguments)
        self._device = adapt(self._model).device
        seen = seen_by(configuration(arguments.pretrained, arguments), self.processor.preparation)
        extent = seen.extent(arguments.max_frames_num)
        self._size = fitting.batch_size(asked, self._device.type, extent)
        logger.info(f"--model {MODEL} --model_args {self.arguments.line()}")

    def _check_context(self) -> None:
        """Frames alone, before weights are read: prompts are known later, to `attach`."""
        guided = self.pipeline.allocator is not None  # by a model that sees every token
        if guided or not self.pipeline.at_input:
            name, frames = self.arguments.pretrained, self.arguments.max_frames_num
            seen = seen_by(configuration(name, self.arguments))
            if not seen.preparation.sized:  # else how many tokens there are, videos tell
                check_context(name, seen, frames, 0, 1, key="max_frames_num")

    @property
    def batch_size(self) -> int:
        """How many samples are answered at once; of `auto`, so far."""
        return self._size.now

    @property
    def device(self) -> torch.device:
        return self._device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers, in the order of the requests.

        Raises VideoError for a video that cannot be read, unless `on_error=empty`, and LmmsError
        where there is none, or where a judge is to score the answers and nobody named one.
        """
        _check_judges(requests)
        answers, ratios, tokens, since = [""] * len(requests), [], 0, time.perf_counter()
        bar = tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding")
        for numbers, settings in self._batches(requests):
            for members in self._alike(numbers, requests):
                answered = fitting.fitted(members, self._size, partial(self._answer, settings))
                for some, (texts, kept, made) in answered:
                    for (number, _, _), text in zip(some, texts, strict=True):
                        answers[number] = text
                    ratios, tokens = ratios + kept, tokens + made
            bar.update(len(numbers))
        bar.close()
        elapsed = time.perf_counter() - since
        if ratios:  # else everything was unreadable
            measured = {"layer_average_ratio": statistics.fmean(ratios)}
            log_metrics(elapsed, tokens, tokens / elapsed, measured)
        return answers

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise LmmsError(
            "--model tokenprune answers one question about one video, and this task has several "
            "rounds: choose one "
            "whose output_type is generate_until"
        )

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise LmmsError(
            "--model tokenprune generates answers, and this task ranks given ones by likelihood: "
            "choose one whose "
            "output_type is generate_until"
        )

    def _batches(self, requests: Sequence[Any]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Numbers of requests that are generated alike, `batch_size` of them, and how."""
        alike: dict[tuple[tuple[str, Any], ...], list[int]] = defaultdict(list)
        ignored: set[str] = set()
        for number, request in enumerate(requests):
            given: Mapping[str, Any] = request.args[1] or {}
            ignored |= given.keys() - set(_PASSED) - set(_DROPPED)
            alike[tuple((key, given[key]) for key in _PASSED if given.get(key) is not None)].append(
                number
            )
        if ignored:
            logger.warning(
                f"generation_kwargs without meaning for --model {MODEL}: "
                f"{', '.join(sorted(ignored))}"
            )
        for chosen, numbers in alike.items():
            settings = {
                "num_beams": 1,
                "max_new_tokens": self.arguments.max_new_tokens,
                **dict(chosen),
            }
            if not settings.get("do_sample") or settings.get("temperature") == 0:
                # beams are the task's to choose
                settings |= GREEDY | {"num_beams": settings["num_beams"]}
            for some in fitting.parts(numbers, self.batch_size):
                yield list(some), settings

    def _alike(
        self, numbers: Sequence[int], requests: Sequence[Any]
    ) -> list[list[tuple[int, Media, str]]]:
        """(number, media, question) of the readable ones, apart by the number of frames where a
        batch has one.
        """
        groups: dict[int, list[tuple[int, Media, str]]] = defaultdict(list)
        ragged = self.processor.preparation.ragged
        for number in numbers:
            context, _, doc_to_visual, doc_id, task, split = requests[number].args
            try:
                visuals = visuals_of(doc_to_visual, self.task_dict[task][split][doc_id])
                clip, media = shown_of(visuals, self.arguments.spread)
            except LmmsError as error:
                raise LmmsError(f"{task}/{doc_id}: {error}") from None
            except (VideoError, OSError) as error:
                if self.arguments.on_error == "stop":
                    raise VideoError(
                        f"{task}/{doc_id}: {error} (on_error=empty goes on without it)"
                    ) from None
                logger.error(f"{task}/{doc_id} gets an empty answer: {error}")
                continue
            alike = 0 if ragged else len(clip.frames)
            question = self.processor.told(context, clip.times, clip.duration)
            shown = media or Medium(clip.frames, clip.times)
            groups[alike].append((number, shown, question))
        return list(groups.values())

    def _answer(
        self, settings: Mapping[str, Any], members: Sequence[tuple[int, Media, str]]
    ) -> tuple[list[str], list[float], int]:
        """Texts, measured layer-average ratios, and how many tokens were generated."""
        encoded = self.processor.encode([(shown, question) for _, shown, question in members])
        inputs = {name: value.to(self._device) for name, value in encoded.items()}
        with torch.inference_mode():
            made = generate(
                self._model,
                self.pipeline,
                self.processor,
                inputs,
                settings,
                assistant=self._assistant,
                images=self.arguments.images,
            )
        ratios = [made.report[row].layer_average_ratio for row in range(len(members))]
        return made.texts, ratios, sum(made.lengths)


def _size(asked: int | str) -> Size:
    if asked == AUTO:
        return AUTO
    if not str(asked).isdecimal() or int(asked) < 1:
        raise LmmsError(
            f"batch_size={asked} is not supported: write a whole number from 1 on, or {AUTO}"
        )
    return int(asked)


def _check_judges(requests: Sequence[Any]) -> None:
    """LmmsError before anything is answered that a judge nobody named would score."""
    asked = {id(task): task for one in requests if (task := _task_of(one)) is not None}
    for task in asked.values():
        if judges.asks(task) and not os.environ.get(judges.VARIABLE):
            raise LmmsError(
                f"{task.config.task} asks a model to judge the answers, and who it is decides the "
                f"score: set {judges.VARIABLE} in the environment, as in "
                f"{judges.VARIABLE}=gpt-4o-mini"
            )


def _task_of(request: Any) -> Any:
    """lmms-eval's task; what shows a document is a method of it."""
    return getattr(request.args[2], "__self__", None)


def _place(device: str) -> str:
    """Under a launcher, each process takes the accelerator of its own number."""
    local = os.environ.get("LOCAL_RANK")
    own = local is not None and device in ("auto", "cuda") and torch.cuda.is_available()
    return f"cuda:{local}" if own else device
