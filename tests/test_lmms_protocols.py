"""Tasks as the papers' harnesses had them: the real lmms-eval, offline, on documents in the shape
of each benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import protocol_docs
import pytest
from protocol_docs import build

from tokenprune.errors import LmmsError
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import Prompted
from tokenprune.reproduce.protocol import own_tasks, protocols, read_protocol

if find_spec("lmms_eval") is None:
    pytest.skip(
        "lmms-eval is not installed: it has an environment of its own", allow_module_level=True
    )

# lmms-eval 0.7.3 leaves a subtitle file to the garbage collector (videomme/utils.py), November 2026
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<video>\n"
FOOT = "<|im_end|>\n<|im_start|>assistant\n"
CHOICES = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\nWhat sits?\n"
    "A. a cat\nB. a dog\nC. a hat\nD. a bat\n"
)
LETTER = "\nAnswer with the option's letter from the given choices directly."


@pytest.fixture(scope="module", autouse=True)
def _offline(protocol_home: Path) -> Iterator[None]:
    with protocol_docs.offline(protocol_home):
        yield


@pytest.fixture
def folder(protocol_home: Path) -> Path:
    return protocol_home / "tasks"


# ---- prompts


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("videomme_2024", CHOICES + LETTER),
        (
            "videomme_w_subtitle_2024",
            f"This video's subtitles are listed below: \nA cat sits.\n{CHOICES}The best answer is:",
        ),
        (
            "mlvu_test_030",
            "What sits?\n(A) a cat\n(B) a dog\nOnly give the best option.\nBest option: (",
        ),
    ],
)
def test_the_whole_prompt_is_the_papers(folder: Path, name: str, asked: str) -> None:
    processor = Processor.load("tiny", Prompted(template="qwen_1_5"))
    task = build(name, folder, short="repeat")
    assert processor.prompt(task.label(0).question) == HEAD + asked + FOOT
    assert task.max_new_tokens == 16
    sample = task[0]
    assert len(sample.frames) == 8, "three pictures are shown as eight"
    inputs = processor.encode([(sample.shown, sample.question)])
    assert int((inputs["input_ids"] == processor.video_token_id).sum()) == 8 * 36 + 1


# ---- answers


def test_videomme_is_read_as_in_2024(folder: Path) -> None:
    """`(A) or (B)` was A and is B now."""
    task = build("videomme_2024", folder)
    first = task[0]
    assert task.score("(A) or (B)", first) == 1 and task.score("B", first) == 0
    assert task.reading("no letter", first) == "unparsed" and task.reading("A", first) == "read"
    given = {0: "(A) or (B)", 1: "B", 2: "a hat", 3: "(D) or (A)"}
    assert task.metrics(given) == {
        "videomme_perception_score": 75,
        "videomme_perception_score_short": 100,
        "videomme_perception_score_medium": 50,
        "videomme_perception_score_long": 100,
        "read_otherwise": 2,
    }


def test_mlvu_is_read_as_in_030(folder: Path) -> None:
    task = build("mlvu_test_030", folder)
    first, last = task[0], task[2]
    assert task.score("A) a cat", first) == 1 and task.score("A", first) == 1
    assert task.score("A. a cat", first) == 0, "no bracket, so the whole text is the answer"
    assert task.reading("A. a cat", first) == "unparsed"
    assert task.score("F) none", last) == 1, "which 0.7.3 cannot read: it knows A to D"
    figures = task.metrics({0: "A)", 1: "A)", 2: "F)"})
    assert figures == {"mlvu_percetion_score": pytest.approx(150 / 9), "read_otherwise": 1}


# ---- the protocols


def test_parts_are_told_by_documents(folder: Path) -> None:
    task = build("videomme_2024", folder)
    short = [index for index in range(len(task)) if task.is_of(index, {"duration": "medium"})]
    assert short == [1, 2]
    figures = task.metrics(dict.fromkeys(short, "B"))
    assert figures["videomme_perception_score"] == 50
    assert task.is_of(0, {"sub_task": "videomme_2024"})
    with pytest.raises(LmmsError, match="documents of videomme_2024 have no length: they have"):
        task.is_of(0, {"length": "short"})


@pytest.mark.parametrize("name", protocols())
def test_every_task_of_a_protocol_is_what_it_says(name: str) -> None:
    """Length of answers and documents, in lmms-eval's file or ours."""
    import lmms_eval  # pyright: ignore[reportMissingImports]
    from lmms_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    from lmms_eval.utils import load_yaml_config  # pyright: ignore[reportMissingImports]

    stock = Path(str(lmms_eval.__file__)).parent / "tasks"
    folders = ("videomme", "longvideobench", "mlvu", "egoschema", "nextqa", "mvbench")
    homes = [own_tasks(), *(stock / one for one in folders), stock / "perceptiontest" / "val"]
    found: dict[str, Any] = {}
    manager = TaskManager(include_defaults=False)
    for home in homes:
        found |= manager._get_task_and_group(str(home))
    for asked in read_protocol(name).tasks.values():
        task = asked.task.removeprefix("lmms:")
        config: Any = load_yaml_config(found[task]["yaml_path"], mode="simple")
        assert asked.own == (own_tasks() / f"{task}.yaml").is_file()
        if isinstance(config.get("task"), list):  # a group
            assert set(config["task"]) <= set(found) and len(config["task"]) == 20
            continue
        longest = (config.get("generation_kwargs") or {}).get("max_new_tokens") or 1024
        assert (config["dataset_path"], longest) == (asked.documents, asked.tokens), task
        place = config["dataset_kwargs"]["cache_dir"]
        assert asked.videos == place or asked.videos.startswith(f"{place}/"), task
