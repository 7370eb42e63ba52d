"""`attach`: a pipeline on one stock model, carried by hooks that are gone when the block ends."""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from typing import Any

from tokenprune import registry
from tokenprune.adapters import VideoLLM
from tokenprune.declaration import check_classes
from tokenprune.errors import StrategyError
from tokenprune.runtime.attachable import (
    attachable,
    check_free,
    check_images,
    check_layers,
    check_memory,
    check_positions,
    guide_of,
)
from tokenprune.runtime.passes import Passes
from tokenprune.runtime.recorder import Recorder
from tokenprune.runtime.remarks import Remarks, warn
from tokenprune.runtime.report import Report
from tokenprune.runtime.tower_stage import check_tower
from tokenprune.strategy import Pipeline

HOW = (
    "write `with attach(model, ...) as session:` and call model.generate inside the block, or "
    "session.start() before and session.stop() after it"
)
UNUSED = f"was never entered, so it compressed nothing: {HOW}"
DROPPED = (
    "was dropped while it was open, and compresses nothing from here on: keep what attach returned "
    "in a variable, and call its stop() at the end"
)
# whether a model is free has to be asked and answered by one thread at a time
ENTERING = threading.RLock()  # a dropped session may end while its thread enters another


def attach(
    model: Any,
    spec: str | Pipeline,
    options: registry.Options | None = None,
    assistant: Any = None,
    timed: bool = False,
    images: bool = False,
    recorder: Recorder | None = None,
) -> Session:
    """Compresses every video prompt of `model` inside `with attach(model, "a+b") as session:`.

    Stock `generate` and `forward` work as always: greedy search, sampling, beams (without a decode
    stage), streamers, stopping criteria, padded batches. Text-only prompts and second turns pass
    through untouched, and so do images, with a warning, unless asked for. `model` and `assistant`
    are stock models of transformers: of wrapped ones (PEFT, DDP, torch.compile) pass what is
    inside. `assistant`, a smaller model of the same family, weighs frames for an allocator in place
    of `model` itself.
    `timed` fills `report.time`. `images` compresses images, too, each as a video of one frame that
    stands behind the videos in the report. `recorder` is filled with what the last row of the
    prompt, and of every step, attends to in each layer.

    Raises StrategyError for a pipeline or an assistant that cannot work on this model,
    UnsupportedModelError for anything that is not a model of a known family; both say what to pass
    instead.
    """
    if isinstance(spec, Pipeline) and options:
        raise StrategyError("options go with a spec string: a pipeline already has its fields")
    pipeline = spec if isinstance(spec, Pipeline) else registry.build(spec, options)
    check_classes(pipeline)
    adapter = attachable(model)
    pipeline.check(adapter.depth)
    check_layers(adapter, pipeline)
    check_positions(adapter, pipeline)
    check_memory(adapter, pipeline)
    check_tower(adapter, pipeline)
    adapter.check_signals(pipeline.signals, str(pipeline))
    check_images(adapter, images)
    return Session(
        adapter, pipeline, guide_of(adapter, assistant, pipeline), timed, images, recorder
    )


class Session:
    """An attached pipeline, and the reports of what it has kept.

    It may be entered again once it was left, which continues `reports`. Threads may share an open
    one: a forward pass and what hooks know of it belong to the thread that runs it, while `reports`
    has the prompts of all threads in the order in which they ended.
    """

    def __init__(
        self,
        adapter: VideoLLM,
        pipeline: Pipeline,
        assistant: VideoLLM | None,
        timed: bool,
        images: bool,
        recorder: Recorder | None = None,
    ) -> None:
        self.pipeline, self._images = pipeline, images
        self._recorder = recorder
        self._adapter, self._assistant, self._timed = adapter, assistant, timed
        self._reports: list[Report] = []
        self._settled = 0  # of those, whose promises have been looked at
        self._remark = Remarks()
        self._passes: Passes | None = None  # while the session is open
        self._stack = ExitStack()
        self._dropped: Any = None  # what happens to one that was started, and not stopped
        self._unused = weakref.finalize(self, warn, f"attach(model, '{pipeline}') {UNUSED}")

    def __repr__(self) -> str:
        state = "not open" if self._passes is None else "open"
        prompts = f"{len(self._reports)} video prompt{'s' * (len(self._reports) != 1)}"
        return f"attached '{self.pipeline}' to a {self._adapter.model_type}: {state}, {prompts}"

    @property
    def reports(self) -> list[Report]:
        """One for every video prompt, oldest first.

        StrategyError before the session was entered.
        """
        if self._unused.alive:
            raise StrategyError(f"this session {UNUSED}")
        self._settle()
        return self._reports

    @property
    def report(self) -> Report:
        """The last video prompt's.

        LookupError before the first, StrategyError before the session was entered.
        """
        if not self.reports:
            raise LookupError(
                "no video prompt has gone through this session yet: call model.generate inside "
                "the block"
            )
        return self.reports[-1]

    def start(self) -> Session:
        """Compresses from now on, until `stop`: what entering the block does, for notebooks.

        Returns itself; keep it. A session that is dropped while it is open warns, and ends.
        """
        self._open()
        self._dropped = weakref.finalize(self, _drop, self._opened(), self._stack)
        self._dropped.atexit = False  # the program has ended, and the model with it
        return self

    def stop(self) -> None:
        """Ends what `start` began; the model is stock again, and reports can still be read.

        StrategyError where the session is not open.
        """
        self._close()
        self._settle()

    def encode(self, **media: Any) -> dict[str, Any]:
        """Looks at videos once, for any number of prompts of this session that show them.

        `media` are what a processor makes of videos (`pixel_values_videos`, `video_grid_thw`); what
        is returned takes their place in `generate` or `forward`. The tower does not run again, and
        neither do stages at the language model's input, unless they read the question. Without
        gradients. Raises StrategyError where the session is not open, PromptError where `media`
        hold no video.
        """
        return self._opened().encode(media)

    def _opened(self) -> Passes:
        if self._passes is None:
            raise StrategyError(f"this session is not open: {HOW}")
        return self._passes

    def __enter__(self) -> Session:
        self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._close()
        if kind is None:  # else there is an error already
            self._settle()

    def _settle(self) -> None:
        """Raises StrategyError for a promise of a stage that a device has found broken."""
        while self._settled < len(self._reports):
            self._settled += 1
            self._reports[self._settled - 1].promises.check()

    def _open(self) -> None:
        self._unused.detach()
        with ENTERING:
            if self._passes is not None:
                raise StrategyError(
                    "this session is open already: leave its block before entering it again "
                    "(stop() ends one that was started)"
                )
            check_free(self._adapter, self._assistant)
            passes = Passes(
                self._adapter,
                self.pipeline,
                self._assistant,
                self._timed,
                self._images,
                self._reports,
                self._remark,
                self._recorder,
            )
            with ExitStack() as undone_on_error:
                passes.hook(undone_on_error)
                self._stack = undone_on_error.pop_all()
            self._passes = passes

    def _close(self) -> None:
        with ENTERING:
            passes = self._opened()
            self._passes = None
            if self._dropped is not None:
                self._dropped.detach()
            _end(passes, self._stack)


def _end(passes: Passes, stack: ExitStack) -> None:
    passes.end()
    stack.close()


def _drop(passes: Passes, stack: ExitStack) -> None:
    """Of a session that nobody can stop any more."""
    with ENTERING:
        _end(passes, stack)
    warn(f"a session of '{passes.pipeline}' {DROPPED}")
