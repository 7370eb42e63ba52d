"""Tasks as the papers' harnesses had them, and judges: the real lmms-eval, offline, on documents in
the shape of each benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import protocol_docs
import pytest
from running import read

from tokenprune import tasks
from tokenprune.cli.main import main
from tokenprune.errors import JudgeError, LmmsError
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import Prompted
from tokenprune.reproduce.protocol import own_tasks, protocols, read_protocol
from tokenprune.tasks import Task

if find_spec("lmms_eval") is None:
    pytest.skip(
        "lmms-eval is not installed: it has an environment of its own", allow_module_level=True
    )

# lmms-eval 0.7.3 leaves a subtitle file to the garbage collector (videomme/utils.py), November 2026
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

JUDGE = "gpt-4o-mini"
HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<video>\n"
FOOT = "<|im_end|>\n<|im_start|>assistant\n"
CHOICES = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\nWhat sits?\n"
    "A. a cat\nB. a dog\nC. a hat\nD. a bat\n"
)
LETTER = "\nAnswer with the option's letter from the given choices directly."


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(home))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        for name in ("MODEL_VERSION", "API_TYPE", "OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _offline: Path) -> Path:
    return protocol_docs.write(tmp_path_factory.mktemp("protocols") / "tasks", _offline)


def build(name: str, folder: Path, **more: Any) -> Task:
    return tasks.build(
        f"lmms:{name}", samples=None, frames=8, seed=0, include_path=str(folder), **more
    )


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


# ---- judges


class Judge:
    """A server that gives verdicts in turn; None: it does not answer."""

    def __init__(self, verdicts: list[str | None]) -> None:
        self.verdicts, self.models = verdicts, []

    def post(self, url: str, *, json: dict[str, Any], **_: Any) -> Any:
        import requests  # pyright: ignore[reportMissingImports]

        self.models.append(json["model"])
        verdict = self.verdicts.pop(0) if self.verdicts else None
        if verdict is None:
            raise requests.exceptions.ConnectionError("nobody is there")
        return Reply(verdict, json["model"])


class Reply:
    def __init__(self, text: str, model: str) -> None:
        self.text, self.model = text, model

    def raise_for_status(self) -> None: ...

    def json(self) -> dict[str, Any]:
        return {"choices": [{"message": {"content": self.text}}], "model": self.model}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str | None]], Judge]:
    """Puts a judge where lmms-eval's code asks one."""
    import time

    import requests  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def put(verdicts: list[str | None]) -> Judge:
        judge = Judge(verdicts)
        monkeypatch.setattr(requests, "post", judge.post)
        return judge

    return put


YES, NO = "{'pred': 'yes', 'score': 4}", "{'pred': 'no', 'score': 1}"


def test_a_judge_has_to_be_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., Judge]
) -> None:
    with pytest.raises(LmmsError, match=r"asks a model to judge .* write judge=NAME"):
        build("activitynetqa_judged", folder)
    with pytest.raises(LmmsError, match="judge=gpt-4o-mini is for tasks whose answers a model"):
        build("videomme_2024", folder, judge=JUDGE)
    monkeypatch.setenv("MODEL_VERSION", "gpt-4o")
    with pytest.raises(LmmsError, match="judge=gpt-4o-mini and MODEL_VERSION=gpt-4o name two"):
        build("activitynetqa_judged", folder, judge=JUDGE)
    monkeypatch.delenv("MODEL_VERSION")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(LmmsError, match="judge=gpt-4o-mini needs a key: set OPENAI_API_KEY"):
        build("activitynetqa_judged", folder, judge=JUDGE)


def test_the_named_judge_is_asked_and_part_of_the_key(
    folder: Path, asked: Callable[[list[str | None]], Judge]
) -> None:
    prints = set()
    for name in (JUDGE, "gpt-4o"):
        judge = asked([YES, NO])
        task = build("activitynetqa_judged", folder, judge=name)
        assert (task.score("a cat", task[0]), task.score("a dog", task[1])) == (1, 0)
        assert judge.models == [name, name]
        assert task.metrics({0: "a cat", 1: "a dog"}) == {
            "gpt_eval_accuracy": 50,
            "gpt_eval_score": pytest.approx(2.5),
        }
        assert judge.models == [name, name], "each answer is judged once"
        prints.add(json.dumps(task.fingerprint()))
    assert len(prints) == 2


def test_a_call_that_failed_is_an_error(
    folder: Path, asked: Callable[[list[str | None]], Judge]
) -> None:
    """lmms-eval counts it as "no" and 0, and so it does a verdict that cannot be read."""
    task = build("activitynetqa_judged", folder, judge=JUDGE)
    asked([])
    with pytest.raises(JudgeError, match="no verdict on activitynetqa_judged/0: "):
        task.score("a cat", task[0])
    asked(["Well, yes."] * 3)
    with pytest.raises(JudgeError, match="no verdict on activitynetqa_judged/0: "):
        task.score("a cat", task[0])
    judge = asked([None, YES, YES])
    assert task.score("a cat", task[0]) == 1, "one that came in the end is one"
    assert len(judge.models) == 3


def test_a_run_keeps_verdicts_and_counts_errors(
    folder: Path, tmp_path: Path, asked: Callable[[list[str | None]], Judge]
) -> None:
    """And never asks twice about one answer."""
    judge = asked([YES, NO])  # and then nobody
    words = ["task=lmms:activitynetqa_judged", f"include_path={folder}", f"judge={JUDGE}"]
    words += ["strategy=none", "device=cpu", "frames=4", "max_new_tokens=3", "workers=0"]
    assert main(["run", *words, f"out={tmp_path / 'out'}"]) == 0
    summary, records = read(tmp_path / "out")
    assert summary["judge"] == JUDGE and summary["errors"] == 1
    assert "judge has no verdict on activitynetqa_judged/2" in summary["first_error"]
    assert summary["metrics"]["vanilla"]["gpt_eval_accuracy"] == 50
    verdicts = [record["vanilla"].get("verdict") for record in records]
    assert verdicts[0]["results"]["none"]["gpt_eval_score"]["Correctness"] == "yes"
    assert verdicts[2] is None
    task = build("activitynetqa_judged", folder, judge=JUDGE)
    before = len(judge.models)
    for record in records[:2]:
        own = record["vanilla"]
        task.recall(record["id"], own["prediction"], own["verdict"])
    figures = task.metrics({n: records[n]["vanilla"]["prediction"] for n in range(2)})
    assert figures["gpt_eval_accuracy"] == 50 and len(judge.models) == before


def test_a_judge_is_for_tasks_of_lmms_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "strategy=none", f"judge={JUDGE}"]) == 2
    assert "judge= is for tasks of lmms-eval" in " ".join(capsys.readouterr().err.split())


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
