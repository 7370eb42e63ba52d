"""A task of lmms-eval: its documents, prompts and metrics (see docs/lmms-eval.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenprune.tasks.lmms.benchmark as benchmark
from tokenprune.errors import LmmsError, VideoError
from tokenprune.loading.video import Spread
from tokenprune.tasks.base import EMPTY, GUESSED, READ, UNPARSED, Label, Sample, Task
from tokenprune.tasks.lmms.media import shown_of, visuals_of

LONGEST = 1024  # new tokens where a task names none: what lmms-eval gives LLaVA-OneVision
_SOURCES = {".py", ".yaml", ".yml", ""}  # of a task; lmms-eval's shared templates have no suffix
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class LmmsTask(Task):
    """The samples of an lmms-eval task, or of a group, whose subtasks follow one another.

    `judge` is the model that judges answers, of tasks that ask one. `model_name` is the backbone's
    name in lmms-eval, by which tasks choose their prompts. Sampling settings of the task are not
    followed: `max_new_tokens`, the largest of its subtasks', is all there is of its
    generation_kwargs. What its code draws at random, for an answer that it cannot read, depends on
    the document and `seed` alone. Raises LmmsError, a ValueError, where lmms-eval or the task is
    missing or the task is of another kind.
    """

    name = "lmms"

    def __init__(
        self,
        name: str,
        *,
        frames: int,
        include_path: str | None = None,
        model_name: str = "llava_onevision",
        sampling: str = "index",
        short: str = "once",
        judge: str | None = None,
        seed: int = 0,
    ) -> None:
        self.name = f"lmms:{name}"
        self._spread, self._model_name, self._seed = (
            Spread(frames, sampling, short),
            model_name,
            seed,
        )
        self._judge_name = judge
        self._benchmark = benchmark.find(name, include_path, model_name, judge)
        self._places = [(s, doc) for s in self._benchmark.subtasks for doc in range(len(s.docs))]
        self._judged: dict[tuple[str, str], benchmark.Judged] = {}
        self._fingerprint: dict[str, Any] | None = None
        lengths = [
            (s.task.config.generation_kwargs or {}).get("max_new_tokens")
            for s in self._benchmark.subtasks
        ]
        self.max_new_tokens: int | None = max(
            (length or LONGEST for length in lengths), default=LONGEST
        )

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(subtask.name for subtask in self._benchmark.subtasks)

    def __len__(self) -> int:
        return len(self._places)

    def label(self, index: int) -> Label:
        subtask, doc = self._places[index]
        return Label(
            f"{subtask.name}/{doc}", subtask.name, subtask.question(doc), subtask.answer(doc)
        )

    def __getitem__(self, index: int) -> Sample:
        """Raises VideoError for a video that cannot be read, LmmsError for a document without a
        video.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        subtask, doc = self._places[index]
        label = self.label(index)
        try:
            shown = visuals_of(subtask.task.doc_to_visual, subtask.task.eval_docs[doc])
            clip, media = shown_of(shown, self._spread)
        except LmmsError as error:
            raise LmmsError(f"{label.id}: {error}") from None
        return Sample(
            id=label.id,
            question=label.question,
            answer=label.answer,
            category=label.category,
            frames=clip.frames,
            metric=self.name,
            group=shown[0] if isinstance(shown[0], str) else None,  # the video's path
            times=clip.times,
            media=media,
            duration=clip.duration,
        )

    def score(self, prediction: str, sample: Sample) -> float:
        subtask, judged = self._judge(sample.id, prediction)
        return subtask.score(judged.results)

    def reading(self, prediction: str, sample: Sample) -> str:
        _, judged = self._judge(sample.id, prediction)
        if judged.guessed:
            return GUESSED
        return EMPTY if not prediction.strip() else UNPARSED if judged.unread else READ

    def is_of(self, index: int, part: Mapping[str, Any]) -> bool:
        """By fields of its document, such as {"duration": "short"}, or by {"sub_task": NAME}."""
        subtask, doc = self._places[index]
        fields = {**subtask.docs[doc], "sub_task": subtask.name}
        if unknown := [name for name in part if name not in fields]:
            raise LmmsError(
                f"the documents of {subtask.name} have no {unknown[0]}: they have "
                f"{', '.join(map(str, fields))}"
            )
        return all(fields[name] == value for name, value in part.items())

    def verdict(self, prediction: str, sample: Sample) -> dict[str, Any] | None:
        subtask, judged = self._judge(sample.id, prediction)
        if subtask.asks is None:
            return None
        return json.loads(json.dumps(dataclasses.asdict(judged), default=str))

    def recall(self, sample_id: str, prediction: str, verdict: Mapping[str, Any]) -> None:
        self._judged[sample_id, prediction] = benchmark.Judged(**verdict)

    def metrics(self, predictions: Mapping[int, str]) -> dict[str, float]:
        """lmms-eval's figures over the samples given: `metric`, in a group `task/metric`; without
        standard errors.
        """
        judged: dict[str, list[benchmark.Judged]] = {name: [] for name in self.categories}
        for index in sorted(predictions):
            subtask, doc = self._places[index]
            judged[subtask.name].append(self._judge(f"{subtask.name}/{doc}", predictions[index])[1])
        return self._benchmark.aggregate(list(judged.values()))

    def _judge(self, name: str, prediction: str) -> tuple[benchmark.Subtask, benchmark.Judged]:
        """Each answer once: some tasks ask a paid model. Raises JudgeError."""
        task, _, doc = name.rpartition("/")
        (subtask,) = (subtask for subtask in self._benchmark.subtasks if subtask.name == task)
        key = name, prediction
        if key not in self._judged:
            self._judged[key] = subtask.judge(int(doc), prediction, self._seed)
        return subtask, self._judged[key]

    def fingerprint(self) -> dict[str, Any]:
        """Reads all documents, and sizes and times of their videos, at the first call."""
        if self._fingerprint is None:
            from importlib.metadata import version

            digest = hashlib.sha256()
            for folder in self._benchmark.folders:
                for file in sorted(folder.iterdir()):
                    if file.suffix in _SOURCES and file.is_file():
                        digest.update(file.read_bytes())
            for subtask in self._benchmark.subtasks:
                _digest(digest, subtask.task.dump_config())
                for doc in range(len(subtask.docs)):
                    _digest(digest, subtask.docs[doc])
                    digest.update(_state(subtask, doc))
            self._fingerprint = {
                "task": self.name,
                **self._spread._asdict(),
                "seed": self._seed,
                "judge": self._judge_name,
                "prompts": self._model_name,
                "lmms_eval": version("lmms_eval"),
                "versions": {s.name: str(s.task.VERSION) for s in self._benchmark.subtasks},
                "digest": digest.hexdigest(),
            }
        return dict(self._fingerprint)


def _digest(digest: Any, values: Any) -> None:
    """Functions count by name: where they are in memory changes from process to process."""
    digest.update(_ADDRESS.sub("", json.dumps(values, sort_keys=True, default=str)).encode())


def _state(subtask: benchmark.Subtask, doc: int) -> bytes:
    """Of a video file, which may be large, size and time of change; of images, their pixels."""
    try:
        shown = visuals_of(subtask.task.doc_to_visual, subtask.task.eval_docs[doc])
    except VideoError:
        return b"missing"
    return b"".join(_visible(visual) for visual in shown)


def _visible(visual: Any) -> bytes:
    if isinstance(visual, str):
        file = Path(visual)
        state = file.stat() if file.exists() else None
        return visual.encode() + (
            f"{state.st_size} {state.st_mtime_ns}".encode() if state else b"missing"
        )
    return (
        repr(visual.size).encode() + visual.tobytes()
        if hasattr(visual, "tobytes")
        else repr(visual).encode()
    )
