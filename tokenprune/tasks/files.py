"""A task read from disk: an annotations file that names videos, questions and answers (see
docs/tasks.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenprune.errors import TaskError
from tokenprune.loading.media import Medium
from tokenprune.loading.video import Clip, Spread, read_clip
from tokenprune.tasks.annotations import entries
from tokenprune.tasks.base import Label, Sample, Task
from tokenprune.tasks.choice import METRIC
from tokenprune.tasks.fields import choice, named, options_of, paths, text, whole
from tokenprune.tasks.metrics import METRICS


@dataclass(frozen=True)
class _Entry:
    """One sample as annotated, its files found."""

    id: str
    videos: tuple[Path, ...]
    images: tuple[Path, ...]  # shown before the videos
    question: str
    answer: str
    category: str
    metric: str
    frames: int | None  # how many the first video has; to know which of them are evidence
    evidence: tuple[int, ...]
    group: str  # the video by default: questions about one are not independent
    options: tuple[str, ...]  # of a multiple-choice question; the answer is one of them


class Files(Task):
    """The samples of an annotations file, `frames` frames of each video, spread evenly by number or
    by `time`.

    The whole file is checked at once, so that a mistake in its last line costs no run. Raises
    TaskError.
    """

    name = "files"

    def __init__(
        self, path: str | Path, *, frames: int, sampling: str = "index", short: str = "once"
    ) -> None:
        path = Path(path).expanduser()
        self._spread = Spread(frames, sampling, short)
        self._entries = [_entry(where, raw, path.parent) for where, raw in entries(path)]
        if not self._entries:
            raise TaskError(f"{path} holds no samples")
        names: dict[str, int] = {}
        for number, entry in enumerate(self._entries, 1):
            if names.setdefault(entry.id, number) != number:
                raise TaskError(
                    f"{path}: samples {names[entry.id]} and {number} have the same id {entry.id!r}"
                )

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.category for entry in self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def label(self, index: int) -> Label:
        entry = self._entries[index]
        return Label(
            entry.id, entry.category, entry.question, entry.answer, entry.options, entry.group
        )

    def fingerprint(self) -> dict[str, Any]:
        """Annotations as they stand; of videos, which may be large, sizes and times of change."""
        annotations, videos = hashlib.sha256(repr(self._entries).encode()), hashlib.sha256()
        for entry in self._entries:
            for file in (*entry.images, *entry.videos):
                state = file.stat()
                videos.update(f"{state.st_size} {state.st_mtime_ns}".encode())
        digests = {"annotations": annotations.hexdigest(), "videos": videos.hexdigest()}
        return {"task": self.name, **self._spread._asdict(), **digests}

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        entry = self._entries[index]
        clips = [read_clip(file, *self._spread) for file in entry.videos]
        clip = clips[0]
        evidence = tuple(
            place for place, frame in enumerate(clip.indices) if frame in entry.evidence
        )
        return Sample(
            id=entry.id,
            question=entry.question,
            answer=entry.answer,
            category=entry.category,
            frames=clip.frames,
            evidence=evidence,
            metric=entry.metric,
            options=entry.options,
            group=entry.group,
            times=clip.times,
            duration=clip.duration,
            media=_media(entry, clips),
        )


def _media(entry: _Entry, clips: Sequence[Clip]) -> tuple[Tensor | Medium, ...]:
    """Images, then videos; nothing where there is one video only."""
    if not entry.images and len(clips) == 1:
        return ()
    images = [read_clip(file, 1).frames[0] for file in entry.images]
    return (*images, *(Medium(clip.frames, clip.times) for clip in clips))


def _entry(where: str, raw: Any, folder: Path) -> _Entry:
    if not isinstance(raw, dict):
        raise TaskError(f"{where}: a sample is an object with id, video, question and answer")
    options = options_of(where, raw)
    metric = _metric(where, raw, options)
    videos = paths(where, raw, "video", folder)
    if not videos:
        raise TaskError(f"{where}: the field 'video' is missing")
    frames, evidence = raw.get("frames"), raw.get("evidence") or []
    if frames is not None and not whole(frames, 1):
        raise TaskError(
            f"{where}: frames counts the video's frames: write a whole number above 0, not "
            f"{frames!r}"
        )
    if not isinstance(evidence, list) or not all(whole(frame, 0) for frame in evidence):
        raise TaskError(f"{where}: evidence is a list of frame numbers from 0 on, not {evidence!r}")
    if evidence and (frames is None or max(evidence) >= frames):
        raise TaskError(
            f"{where}: evidence numbers the video's frames: add how many there are, as in "
            '"frames": 16'
        )
    return _Entry(
        id=text(where, raw, "id"),
        videos=videos,
        images=paths(where, raw, "images", folder),
        question=text(where, raw, "question"),
        answer=choice(where, raw, options) if options else text(where, raw, "answer"),
        category=text(where, raw, "category", "all"),
        metric=metric,
        frames=frames,
        evidence=tuple(evidence),
        options=options,
        group=named(videos[0], folder) if raw.get("group") is None else text(where, raw, "group"),
    )


def _metric(where: str, raw: Mapping[str, Any], options: tuple[str, ...]) -> str:
    metric = text(where, raw, "metric", METRIC if options else "exact_match")
    if metric not in (*METRICS, METRIC):
        raise TaskError(
            f"{where}: unknown metric {metric!r}; metrics: {', '.join((*METRICS, METRIC))}"
        )
    if options and metric != METRIC:
        raise TaskError(
            f"{where}: a sample with options is scored by {METRIC}, not by {metric}: leave metric "
            "out"
        )
    if metric == METRIC and not options:
        raise TaskError(
            f'{where}: {METRIC} needs options: add them, as in "options": ["red", "blue"]'
        )
    return metric
