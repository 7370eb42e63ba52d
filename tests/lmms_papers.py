"""A paper of the tests' own over lmms-eval's tasks, offline: local documents in the shape of each
benchmark of the protocols, and answers that are written here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import demo_papers
import protocol_docs
import pytest
import yaml
from clips import write_noise

from tokenprune.reproduce.protocol import FOLDER, read_protocol

QUESTIONS = 4  # of a task; of NExT-QA twice as many
# what is said of a question, in turn; the full model begins with the first, others with the third
SAID = ("A", "(A) or (B)", "no letter", "")
KILLED_AT = "TEST_KILLED_AT"  # the number of a question at which the process kills itself
_OPTIONS = ["a cat", "a dog", "a hat", "a bat", "a rat"]


def _nextqa(number: int) -> dict[str, Any]:
    options = {f"a{place}": option for place, option in enumerate(_OPTIONS)}
    return {"video": 100 + number, "question": "what sits", "answer": number % 5, **options}


def _longvideobench(number: int) -> dict[str, Any]:
    return {
        "id": f"q{number}",
        "video_path": f"v{number}.mp4",
        "question": "What sits?",
        **{f"option{place}": _OPTIONS[place] if place < 4 else "N/A" for place in range(5)},
        "correct_choice": 0,
        "duration": 15.0,
        "duration_group": 15,
        "question_category": "S2E",
    }


def _perceptiontest(number: int) -> dict[str, Any]:
    return {
        "video_name": f"video_{number}",
        "question": "What sits?",
        "question_id": str(number),
        "options": _OPTIONS[:3],
        "answer_id": number % 2,
        "area": "semantics",
        "reasoning": "descriptive",
        "tag": ["object"],
    }


def _mvbench(number: int) -> dict[str, Any]:
    given = {"question": "What sits?", "candidates": _OPTIONS[:4]}
    return {"video": f"v{number}.mp4", **given, "answer": _OPTIONS[number % 2]}


def _egoschema(number: int) -> dict[str, Any]:
    lettered = [f"{letter}. {option}" for letter, option in zip("ABCDE", _OPTIONS, strict=True)]
    return {
        "question_idx": str(number),
        "video_idx": f"e{number}",
        "question": "What sits?",
        "option": lettered,
        "answer": "0",
    }


@dataclasses.dataclass(frozen=True)
class Stock:
    """A task of lmms-eval's own: where its file is, its split, its videos, and documents."""

    file: str
    split: str
    videos: str  # below HF_HOME
    doc: Any
    number: int = QUESTIONS


_MVBENCH = {
    "mvbench_action_sequence": "star/Charades_segment",
    "mvbench_object_existence": "clevrer/video_validation",
}
STOCK = {
    "nextqa_mc_test": Stock(
        "nextqa/nextqa_mc_test.yaml", "test", "nextqa/NExTVideo/{video}.mp4", _nextqa, 8
    ),
    "longvideobench_val_v": Stock(
        "longvideobench/longvideobench_val_v.yaml",
        "validation",
        "datasets/longvideobench/videos/{video_path}",
        _longvideobench,
    ),
    "perceptiontest_val_mc": Stock(
        "perceptiontest/val/perceptiontest_mc.yaml",
        "validation",
        "perceptiontest_val/videos/{video_name}.mp4",
        _perceptiontest,
    ),
    "egoschema_subset": Stock(
        "egoschema/egoschema_subset.yaml", "test", "egoschema/videos/{video_idx}.mp4", _egoschema
    ),
    **{
        name: Stock(f"mvbench/{name}.yaml", "train", f"mvbench_video/{place}/{{video}}", _mvbench)
        for name, place in _MVBENCH.items()
    },
}
_PLACES = r"(?m)^(dataset_path|dataset_name|dataset_kwargs|include):.*\n(?:[ \t]+.*\n)*"


def write_tasks(home: Path, folder: Path) -> None:
    """In `folder`, tasks of the protocols over documents of this machine: ours as `protocol_docs`
    wrote them below `home`, and lmms-eval's own; `home`, as HF_HOME, gets their videos.
    """
    shutil.copytree(home / "tasks", folder)
    spec = find_spec("lmms_eval")
    assert spec is not None and spec.origin is not None
    stock = Path(spec.origin).parent / "tasks"
    for name, one in STOCK.items():
        docs = [one.doc(number) for number in range(one.number)]
        lines = folder / f"{name}.jsonl"
        lines.write_text("\n".join(map(json.dumps, docs)) + "\n")
        file = stock / one.file
        template = file.with_name("_default_template_yaml")
        text = f"{template.read_text() if template.is_file() else ''}\n{file.read_text()}\n"
        package = f"lmms_eval.tasks.{one.file.rpartition('/')[0].replace('/', '.')}"
        local = re.sub(_PLACES, "", text).replace("!function utils.", f"!function {package}.utils.")
        place = {"dataset_path": "json", "dataset_kwargs": {"data_files": {one.split: str(lines)}}}
        (folder / f"{name}.yaml").write_text(f"{yaml.safe_dump(place)}{local}")
        for number, doc in enumerate(docs):
            video = home / one.videos.format(**doc)
            video.parent.mkdir(parents=True, exist_ok=True)
            write_noise(video, range(number, 300 + number, 100), rate=10)
    group = yaml.safe_load((protocol_docs.TASKS / "mvbench_2024.yaml").read_text())
    (folder / "mvbench_2024.yaml").write_text(yaml.safe_dump({**group, "task": list(_MVBENCH)}))


NUMBERS = {
    "videomme": 4,
    "videomme_w_subtitle": 4,
    "mlvu_test_030": 3,
    "activitynetqa": 3,
    "longvideobench_val_v": 4,
    "perceptiontest_val_mc": 4,
    "egoschema_subset": 4,
    "nextqa_mc_test": 8,
    "mvbench": 8,
}


def local(name: str) -> dict[str, Any]:
    """A protocol with as many documents as there are here, answers of three tokens, float32."""
    whole = read_protocol(name)
    tasks = {}
    for task in [*NUMBERS, "egoschema"]:
        kept = dataclasses.asdict(whole.tasks[task])
        here = {"documents": "", "own": True, "tokens": 3}
        tasks[task] = {**kept, "n": NUMBERS.get(task, kept["n"]), **here}
    items = [dataclasses.asdict(item) for item in whole.items]
    words = {**whole.words, "dtype": "float32"}
    return {"title": whole.title, "words": words, "tasks": tasks, "items": items}


def write(home: Path, tables: dict[str, Any], protocols: dict[str, Any]) -> Path:
    """`home` as the folder of all papers, with these tables in one and these protocols."""
    demo_papers.write(home, tables)
    for name, protocol in protocols.items():
        text = yaml.safe_dump(protocol, sort_keys=False)
        (home / FOLDER / f"{name}.yaml").write_text(text)
    return home


@contextmanager
def scripted() -> Iterator[None]:
    """Answers are those of SAID, whatever a model says."""
    from tokenprune.evaluation.asking import Asking

    real = Asking._answer

    def answer(self: Asking, group: Any, row: int, made: Any) -> Any:
        number = group.indices[row]
        if os.environ.get(KILLED_AT) == str(number) and self.role != "vanilla":
            os.kill(os.getpid(), signal.SIGKILL)
        texts = list(made.texts)
        texts[row] = SAID[(number + 2 * (self.role != "vanilla")) % len(SAID)]
        return real(self, group, row, dataclasses.replace(made, texts=texts))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Asking, "_answer", answer)
        yield


@contextmanager
def at(hub: Path, papers: Path) -> Iterator[None]:
    """The papers in `papers`, the videos below `hub`, no network, and scripted answers."""
    with protocol_docs.offline(hub), demo_papers.at(papers), scripted(), _importable():
        yield


@contextmanager
def _importable() -> Iterator[None]:
    """Modules that lmms-eval's code of these tasks imports for others of its tasks."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("decord") is None:  # of LongVideoBench with single images
            reader = ModuleType("decord")
            reader.VideoReader = reader.cpu = None  # pyright: ignore[reportAttributeAccessIssue]
            patch.setitem(sys.modules, "decord", reader)
        with suppress(ImportError):
            import nltk  # pyright: ignore[reportMissingImports]

            # of NExT-QA with open answers, which fetches word lists when it is imported
            patch.setattr(nltk, "download", lambda *_, **__: False)
        yield
