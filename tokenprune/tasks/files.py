"""A task read from disk: an annotations file that names videos, questions and answers (see
docs/tasks.md).
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import TaskError
from tokenprune.loading.video import read_clip
from tokenprune.tasks.annotations import entries
from tokenprune.tasks.base import Label, Sample, Task
from tokenprune.tasks.choice import FEWEST, METRIC, MOST
from tokenprune.tasks.metrics import METRICS


@dataclass(frozen=True)
class _Entry:
    """One sample as annotated, its video found."""

    id: str
    video: Path
    question: str
    answer: str
    category: str
    metric: str
    frames: int | None  # how many the video has; needed to know which of them are evidence
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

    def __init__(self, path: str | Path, *, frames: int, sampling: str = "index") -> None:
        path = Path(path).expanduser()
        self._frames, self._sampling = frames, sampling
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
            state = entry.video.stat()
            videos.update(f"{state.st_size} {state.st_mtime_ns}".encode())
        digests = {"annotations": annotations.hexdigest(), "videos": videos.hexdigest()}
        return {"task": self.name, "frames": self._frames, "sampling": self._sampling, **digests}

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        entry = self._entries[index]
        clip = read_clip(entry.video, self._frames, self._sampling)
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
        )


def _entry(where: str, raw: Any, folder: Path) -> _Entry:
    if not isinstance(raw, dict):
        raise TaskError(f"{where}: a sample is an object with id, video, question and answer")
    options = _options(where, raw)
    metric = _metric(where, raw, options)
    video = _video(where, raw, folder)
    frames, evidence = raw.get("frames"), raw.get("evidence") or []
    if frames is not None and not _number(frames, 1):
        raise TaskError(
            f"{where}: frames counts the video's frames: write a whole number above 0, not "
            f"{frames!r}"
        )
    if not isinstance(evidence, list) or not all(_number(frame, 0) for frame in evidence):
        raise TaskError(f"{where}: evidence is a list of frame numbers from 0 on, not {evidence!r}")
    if evidence and (frames is None or max(evidence) >= frames):
        raise TaskError(
            f"{where}: evidence numbers the video's frames: add how many there are, as in "
            '"frames": 16'
        )
    return _Entry(
        id=_text(where, raw, "id"),
        video=video,
        question=_text(where, raw, "question"),
        answer=_choice(where, raw, options) if options else _text(where, raw, "answer"),
        category=_text(where, raw, "category", "all"),
        metric=metric,
        frames=frames,
        evidence=tuple(evidence),
        options=options,
        group=_named(video, folder) if raw.get("group") is None else _text(where, raw, "group"),
    )


def _named(video: Path, folder: Path) -> str:
    """One name for one file, however it is written; without the place of `folder`, where it lies
    inside.
    """
    found, home = video.resolve(), folder.resolve()
    return (found.relative_to(home) if found.is_relative_to(home) else found).as_posix()


def _video(where: str, raw: Mapping[str, Any], folder: Path) -> Path:
    """The file, relative to the folder of the annotations."""
    name = _text(where, raw, "video")
    if "://" in name:
        raise TaskError(f"{where}: the video {name} is an address: download it, and name the file")
    video = folder / Path(name).expanduser()
    if not video.is_file():
        hint = ": write / between folders" if "\\" in name else ""
        raise TaskError(f"{where}: there is no video {video}{hint}")
    return video


def _metric(where: str, raw: Mapping[str, Any], options: tuple[str, ...]) -> str:
    metric = _text(where, raw, "metric", METRIC if options else "exact_match")
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


def _options(where: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts to choose from, without letters of their own (`A.

    red`); none where the field is missing or null.
    """
    options = raw.get("options")
    if options is None:
        return ()
    if not isinstance(options, list) or not all(
        isinstance(option, str) and option.strip() for option in options
    ):
        raise TaskError(
            f'{where}: options is a list of texts, as in ["red", "blue"], not {options!r}'
        )
    if not FEWEST <= len(options) <= MOST:
        raise TaskError(f"{where}: {len(options)} options: write {FEWEST} to {MOST}")
    bare = [" ".join(option.split()).casefold() for option in options]
    if twice := next((option for n, option in enumerate(options) if bare[n] in bare[:n]), None):
        raise TaskError(f"{where}: the option {twice!r} is there twice: leave one of them out")
    options = [option.strip() for option in options]
    labels = [re.match(r"\(?([A-Z])[.):]\s*(?=\S)", option) for option in options]
    if all(
        label and label[1] == letter
        for label, letter in zip(labels, string.ascii_uppercase, strict=False)
    ):
        options = [
            option[label.end() :] for option, label in zip(options, labels, strict=True) if label
        ]
    return tuple(options)


def _choice(where: str, raw: Mapping[str, Any], options: tuple[str, ...]) -> str:
    """The text of the right option, which `answer` names by its text, its letter or its number from
    0.
    """
    answer = raw.get("answer")
    if not _number(answer, 0):
        answer = _text(where, raw, "answer").strip()
    named = {n for n, option in enumerate(options) if option.casefold() == str(answer).casefold()}
    letters = string.ascii_uppercase[: len(options)]
    letter = re.fullmatch(r"[(\[]?([A-Za-z])[)\].]?", str(answer))
    place = answer if isinstance(answer, int) else letters.find(letter[1].upper()) if letter else -1
    found = named | ({place} & set(range(len(options))))
    if not found:
        raise TaskError(
            f"{where}: the answer {answer!r} is not among the options: write the text of one, a "
            "letter from A to "
            f"{letters[-1]}, or a number from 0 to {len(options) - 1}"
        )
    if len(found) > 1:
        instead = "letter" if isinstance(answer, int) else "number, counted from 0,"
        raise TaskError(
            f"{where}: the answer {answer!r} is the text of one option and the place of another: "
            f"write the {instead} of the right one"
        )
    return options[found.pop()]


def _text(where: str, raw: Mapping[str, Any], field: str, default: str | None = None) -> str:
    if field not in raw and default is not None:
        return default
    if field not in raw:
        raise TaskError(f"{where}: the field {field!r} is missing")
    if not isinstance(raw[field], str) or not raw[field].strip():
        raise TaskError(f"{where}: the field {field!r} has to be text, not {raw[field]!r}")
    return raw[field]


def _number(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
