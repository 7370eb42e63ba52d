"""Documents in the shape of benchmarks, with videos, and tasks of the protocols that read them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clips import write_noise

import tokenprune
from tokenprune import tasks
from tokenprune.tasks import Task

TASKS = Path(tokenprune.__file__).parent / "papers" / "protocols" / "tasks"
SUBTITLE = '1\n00:00:00,000 --> 00:00:10,000\n<font color="white" size=".72c">A cat sits.</font>\n'
OPTIONS = ["A. a cat", "B. a dog", "C. a hat", "D. a bat"]
VIDEOMME = [
    {
        "question_id": f"00{number}-1",
        "videoID": f"v{number}",
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Astronomy",
        "task_type": "Counting Problem",
        "question": "What sits?",
        "options": OPTIONS,
        "answer": answer,
    }
    for number, (duration, answer) in enumerate(
        [("short", "A"), ("medium", "B"), ("medium", "C"), ("long", "D")]
    )
]
MLVU = [
    {
        "video_name": f"v{number}.mp4",
        "question": "What sits?\n(A) a cat\n(B) a dog",
        "answer": answer,
        "task_type": kind,
    }
    for number, (kind, answer) in enumerate([("count", "A"), ("ego", "B"), ("ego", "F")])
]
ACTIVITYNET = [
    {
        "video_name": f"v{number}",
        "question": "what sits",
        "answer": "cat",
        "question_id": str(number),
        "type": 0,
    }
    for number in range(3)
]
VIDEOS = {
    "videomme": ("videomme/data", "v{}.mp4", 4),
    "mlvu": ("mlvu_test", "v{}.mp4", 3),
    "activitynet": ("activitynetqa/all_test", "v_v{}.mp4", 3),
}


@contextmanager
def offline(home: Path) -> Iterator[None]:
    """lmms-eval finds `home`'s videos, no network and no judge."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(home))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(home / "datasets"))
        for name in ("MODEL_VERSION", "API_TYPE", "OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        yield


def build(name: str, folder: Path, **more: Any) -> Task:
    """A task of eight frames."""
    return tasks.build(
        f"lmms:{name}", samples=None, frames=8, seed=0, include_path=str(folder), **more
    )


def write(home: Path) -> Path:
    """`home`, as HF_HOME, with videos, and in `home/tasks` a copy of the protocols' tasks whose
    documents are those above.
    """
    folder = home / "tasks"
    shutil.copytree(TASKS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    docs = {"videomme": VIDEOMME, "mlvu": MLVU, "activitynet": ACTIVITYNET}
    for name, lines in docs.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    for file in folder.glob("*.yaml"):
        name = next((name for name in docs if file.name.startswith(name)), None)
        if name is None:
            file.unlink()
            continue
        here = (
            f'dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: "{folder}/{name}.jsonl"'
        )
        local = re.sub(r"dataset_path: .*?(?=\ntest_split)", here, file.read_text(), flags=re.S)
        file.write_text(local)
    for place, pattern, number in VIDEOS.values():
        (home / place).mkdir(parents=True)
        for index in range(number):
            # three pictures: a short clip
            write_noise(home / place / pattern.format(index), range(0, 300, 100), rate=10)
    (home / "videomme" / "subtitle").mkdir()
    (home / "videomme" / "subtitle" / "v0.srt").write_text(SUBTITLE)
    return home
