"""A task read from disk: an annotations file that names videos, questions and answers (see docs/tasks.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import TaskError
from tokenprune.tasks.base import Label, Sample, Task
from tokenprune.tasks.scoring import METRICS
from tokenprune.video import frame_indices, read_frames


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


class Files(Task):
    """The samples of an annotations file, `frames` frames of each video, spread evenly.

    The whole file is checked at once, so that a mistake in its last line costs no run. Raises TaskError.
    """

    name = "files"

    def __init__(self, path: str | Path, *, frames: int) -> None:
        path = Path(path).expanduser()
        self._frames = frames
        self._entries = [_entry(where, raw, path.parent) for where, raw in _raw(path)]
        if not self._entries:
            raise TaskError(f"{path} holds no samples")
        names: dict[str, int] = {}
        for number, entry in enumerate(self._entries, 1):
            if names.setdefault(entry.id, number) != number:
                raise TaskError(f"{path}: samples {names[entry.id]} and {number} have the same id {entry.id!r}")

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.category for entry in self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def label(self, index: int) -> Label:
        entry = self._entries[index]
        return Label(entry.id, entry.category, entry.question, entry.answer)

    def fingerprint(self) -> dict[str, Any]:
        """Annotations as they stand; of the videos, which may be large, sizes and times of change."""
        annotations, videos = hashlib.sha256(repr(self._entries).encode()), hashlib.sha256()
        for entry in self._entries:
            state = entry.video.stat()
            videos.update(f"{state.st_size} {state.st_mtime_ns}".encode())
        digests = {"annotations": annotations.hexdigest(), "videos": videos.hexdigest()}
        return {"task": self.name, "frames": self._frames, **digests}

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        entry = self._entries[index]
        frames = read_frames(entry.video, self._frames)
        chosen = frame_indices(entry.frames or 0, self._frames)
        evidence = tuple(place for place, frame in enumerate(chosen) if frame in entry.evidence)
        return Sample(entry.id, entry.question, entry.answer, entry.category, frames, evidence, entry.metric)


def _raw(path: Path) -> list[tuple[str, Any]]:
    """The entries of a JSON or JSONL file, each with the words that say where it stands."""
    if not path.is_file():
        raise TaskError(f"there is no annotations file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [
                (f"{path}, line {n}", _parsed(line, n)) for n, line in enumerate(text.split("\n"), 1) if line.strip()
            ]
        whole = _parsed(text, 1)
    except UnicodeDecodeError:
        raise TaskError(f"{path} is no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise TaskError(f"{path}, line {error.lineno}: no valid JSON ({error.msg})") from None
    samples = whole.get("samples") if isinstance(whole, dict) else whole
    if not isinstance(samples, list):
        raise TaskError(f'{path} is neither a list of samples nor an object with a list "samples"')
    return [(f"{path}, sample {n}", raw) for n, raw in enumerate(samples, 1)]


def _parsed(text: str, line: int) -> Any:
    """JSON whose errors count lines from the start of the file, though `text` begins in its line `line`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        error.lineno += line - 1
        raise


def _entry(where: str, raw: Any, folder: Path) -> _Entry:
    if not isinstance(raw, dict):
        raise TaskError(f"{where}: a sample is an object with id, video, question and answer")
    metric = _text(where, raw, "metric", "exact_match")
    if metric not in METRICS:
        raise TaskError(f"{where}: unknown metric {metric!r}; metrics: {', '.join(METRICS)}")
    video = folder / Path(_text(where, raw, "video")).expanduser()
    if not video.is_file():
        raise TaskError(f"{where}: there is no video {video}")
    frames, evidence = raw.get("frames"), raw.get("evidence") or []
    if frames is not None and not _number(frames, 1):
        raise TaskError(f"{where}: frames counts the video's frames: write a whole number above 0, not {frames!r}")
    if not isinstance(evidence, list) or not all(_number(frame, 0) for frame in evidence):
        raise TaskError(f"{where}: evidence is a list of frame numbers from 0 on, not {evidence!r}")
    if evidence and (frames is None or max(evidence) >= frames):
        raise TaskError(f'{where}: evidence numbers the video\'s frames: add how many there are, as in "frames": 16')
    return _Entry(
        id=_text(where, raw, "id"),
        video=video,
        question=_text(where, raw, "question"),
        answer=_text(where, raw, "answer"),
        category=_text(where, raw, "category", "all"),
        metric=metric,
        frames=frames,
        evidence=tuple(evidence),
    )


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
