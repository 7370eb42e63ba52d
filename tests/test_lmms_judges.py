"""Models that judge answers: named, asked once, and an error where they fail. The real lmms-eval,
and a judge that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import protocol_docs
import pytest
from protocol_docs import build
from running import read

from tokenprune.cli.main import main
from tokenprune.errors import JudgeError, LmmsError

if find_spec("lmms_eval") is None:
    pytest.skip(
        "lmms-eval is not installed: it has an environment of its own", allow_module_level=True
    )

JUDGE = "gpt-4o-mini"


@pytest.fixture(scope="module", autouse=True)
def _offline(protocol_home: Path) -> Iterator[None]:
    with protocol_docs.offline(protocol_home):
        yield


@pytest.fixture
def folder(protocol_home: Path) -> Path:
    return protocol_home / "tasks"


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


def test_our_models_there_refuse_an_unnamed_judge(
    folder: Path, asked: Callable[..., Judge]
) -> None:
    """lmms-eval would ask one of its own choice, and count a failed call as "no"."""
    from lmms_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lmms_eval.models import MODEL_REGISTRY_V2  # pyright: ignore[reportMissingImports]
    from lmms_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    from tokenprune.lmms import manifest

    asked([])
    MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    manager = TaskManager("ERROR", include_path=str(folder), model_name="tokenprune")
    words = {"bootstrap_iters": 0, "device": "cpu", "batch_size": 1, "verbosity": "ERROR"}
    name = "activitynetqa_judged"
    with pytest.raises(LmmsError, match=f"{name} asks a model to judge .* set MODEL_VERSION"):
        simple_evaluate(
            "tokenprune", model_args="pretrained=tiny", tasks=[name], task_manager=manager, **words
        )
