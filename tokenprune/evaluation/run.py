"""A run from its configuration to its results: everything that can fail early does so before
weights are loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune import registry, tasks
from tokenprune.checkpoints import note
from tokenprune.errors import PromptError
from tokenprune.evaluation.config import LONGEST, RunConfig
from tokenprune.evaluation.extent import check_context, longest_text, outline, questions_of
from tokenprune.evaluation.loop import Loop, evaluate
from tokenprune.evaluation.placement import placement
from tokenprune.evaluation.retention import retaining
from tokenprune.evaluation.trainer import check
from tokenprune.loading.checkpoint import configuration, load
from tokenprune.loading.device import cores, pick_device
from tokenprune.loading.processor import Processor
from tokenprune.loading.video import read_clip
from tokenprune.plugins import load_plugins
from tokenprune.registry import resolve
from tokenprune.results import begun, copies, provenance
from tokenprune.results.answer import RANDOM, STRATEGY, VANILLA, Answer
from tokenprune.results.differences import moved
from tokenprune.results.journal import Journal, count
from tokenprune.results.record import begin, environment, write
from tokenprune.results.reuse import content_key, offer
from tokenprune.results.run_folder import run_folder
from tokenprune.results.summarise import answered_by_all, summarise
from tokenprune.results.summary import Setting, Summary
from tokenprune.results.system import System
from tokenprune.storage import first_process
from tokenprune.strategy import Extent, Pipeline
from tokenprune.tasks import Label, Sample, Task
from tokenprune.tasks.choice import asked


@dataclass(frozen=True)
class Finished:
    """A run that is on disk."""

    folder: Path
    summary: Summary
    systems: list[System]


class Clip(Task):
    """One video file and one question about it, whose answer nobody knows: its score is nan."""

    name = "video"

    def __init__(self, path: str, question: str, frames: int, sampling: str = "index") -> None:
        clip = read_clip(path, frames, sampling)
        self._sample = Sample(
            Path(path).name, question, "", self.name, clip.frames, times=clip.times
        )

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return self._sample

    def label(self, index: int) -> Label:
        return Label(self._sample.id, self.name, self._sample.question, "")

    def fingerprint(self) -> dict[str, Any]:
        frames = provenance.digest(self._sample.frames.numpy().tobytes())
        shape = "x".join(map(str, self._sample.frames.shape))
        return {"task": self.name, "frames": f"{shape} {frames}", "question": self._sample.question}

    def score(self, prediction: str, sample: Sample) -> float:
        return math.nan


def run(config: RunConfig, command: str) -> Finished | None:
    """Evaluates the full model, the strategy, and `random` at the same measured budget, and writes
    the results.

    None from a process that is not the first of several. Raises TokenpruneError, OSError; what is
    left then, `folder.run_folder` says.
    """
    load_plugins(config.plugin)
    pipeline = resolve(
        config.strategy, config.options, seed=config.seed, assistant=config.assistant
    )
    code = provenance.code_of_pipeline(pipeline) | provenance.code_of(registry.get("random"))
    with run_folder(out=config.out, resume=config.resume, spec=str(pipeline)) as folder:
        settings = configuration(config.model)
        pipeline.check(settings.get_text_config().num_hidden_layers)
        if config.assistant is not None:
            configuration(config.assistant)
        task, config = _task(config)
        assert config.max_new_tokens is not None and config.frames is not None  # settled
        adapter, processor = outline(settings), Processor.load(config.model)
        text = longest_text(processor, questions_of(task, config.limit), adapter)
        check_context(config.model, adapter, config.frames, text, config.max_new_tokens)
        if config.keep is not None:
            extent = Extent(config.frames, adapter.cells, adapter.depth)
            pipeline = retaining(pipeline, config.keep, extent, config.options)
        loop_code = provenance.code_of_package() | provenance.code_of(type(task), type(adapter))
        before = begun.read(folder) if config.resume or not first_process() else None
        dtype, device, options = placement(config, None if before is None else before["dtype"])
        check(options, pick_device(device))
        models = [config.model, *([config.assistant] if config.assistant else [])]
        samples, mixed = task.fingerprint(), options.get("precision")
        made_with = begun.made_with(code | loop_code, models, samples, dtype, mixed)
        if before is not None:
            begun.check(folder, config.video or config.task, before, made_with)
        elif first_process():
            begin(folder, _given(config), made_with)
            copies.keep(folder, code | loop_code)
        model, processor = load(config.model, dtype, device)
        assistant = None if config.assistant is None else load(config.assistant, dtype, device)[0]
        # Lightning takes the model back to the CPU
        place = environment(model.device, model.dtype, command)
        place["packages"] = (code | loop_code).versions()
        if first_process():
            begun.sit_down(folder, place, count(folder))
        loop = Loop(
            batch_size=config.batch_size,
            limit=config.limit,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            workers=_workers(config),
            stop_on_error=config.on_error == "stop" or config.video is not None,
            trainer=options,
        )
        systems = _systems(pipeline)
        key = _vanilla_key(config, samples, loop_code, place)
        journal = Journal(folder)
        size = min(len(task), config.limit or len(task))
        if config.reuse and config.video is None and len(journal.read(VANILLA)) < size:
            offer(systems[0], folder, key, size)
        if not evaluate(
            model, processor, task, systems, loop, assistant=assistant, journal=journal
        ):
            return None
        figures = {
            role: task.metrics({answer.index: answer.prediction for answer in answers})
            for role, answers in answered_by_all(systems).items()
        }
        earlier = begun.earlier(folder)
        summary = dataclasses.replace(
            summarise(
                systems, _setting(config, pipeline), figures if any(figures.values()) else {}
            ),
            code=made_with["code"],
            vanilla_key=None if moved(place, earlier) else key,
            environment=place if not earlier else {**place, "earlier": earlier},
        )
        prompts = {answer.id: _prompt(processor, answer) for answer in systems[0].answers}
        write(folder, summary, systems, prompts, _given(config), made_with)
        journal.discard()
    return Finished(folder, summary, systems)


def _given(config: RunConfig) -> dict[str, Any]:
    """The run's keys as they are written down; where it goes is where the file is."""
    given = dataclasses.asdict(config)
    return {key: value for key, value in given.items() if key not in ("out", "resume")}


def _setting(config: RunConfig, pipeline: Pipeline) -> Setting:
    assert config.frames is not None  # settled
    drawn = config.video is None and tasks.draws(config.task)
    return Setting(
        spec=str(pipeline),
        options=config.options,
        keep=config.keep,
        model=config.model,
        assistant=config.assistant,
        task=config.task if config.video is None else None,
        video=config.video,
        question=config.question,
        frames=config.frames,
        seed=config.seed,
        sampling=None if drawn else config.sampling,
        note=note(config.model, config.assistant),
    )


def _prompt(processor: Processor, answer: Answer) -> str:
    """The chat turn; empty where there is none, which is why that sample has an error."""
    try:
        return processor.prompt(asked(answer.question, answer.options))
    except PromptError:
        return ""


def _systems(pipeline: Pipeline) -> list[System]:
    """In the order of evaluation: the control needs to know what the strategy keeps."""
    spec = str(pipeline)
    systems = [System(VANILLA, VANILLA, registry.build("none"))]
    if spec == RANDOM:
        systems.append(System(RANDOM, spec, pipeline))
    elif pipeline.strategies:
        systems += [System(STRATEGY, spec, pipeline), System(RANDOM, RANDOM, None)]
    return systems


def _vanilla_key(
    config: RunConfig, samples: Mapping[str, Any], code: provenance.Code, place: Mapping[str, Any]
) -> str:
    machine = {
        name: place[name]
        for name in ("versions", "platform", "device", "device_name", "dtype", "threads")
    }
    loop = {
        "batch_size": config.batch_size,
        "max_new_tokens": config.max_new_tokens,
        "trainer": config.trainer,
    }
    return content_key(
        config.model, task=dict(samples), loop=loop, machine=machine, code=code.digests()
    )


def _workers(config: RunConfig) -> int:
    """Decoding overlaps with the model where videos are files; what a task makes itself is made
    faster than sent.
    """
    if config.workers is not None or config.video is not None or tasks.draws(config.task):
        return config.workers or 0
    return max(1, min(4, cores() - 1))


def _task(config: RunConfig) -> tuple[Task, RunConfig]:
    """What is asked, and the configuration with the numbers it settled on."""
    if config.video is not None and config.question is not None:
        task: Task = Clip(config.video, config.question, config.frames_requested, config.sampling)
        frames = len(task[0].frames)
    else:
        frames, folder = config.frames_requested, config.include_path
        made = {
            "samples": config.samples,
            "frames": frames,
            "seed": config.seed,
            "sampling": config.sampling,
        }
        task = tasks.build(config.task, **made, include_path=folder)
    longest = config.max_new_tokens or task.max_new_tokens or LONGEST
    return task, dataclasses.replace(config, frames=frames, max_new_tokens=longest)
