"""Whether the code of a task asks a judge, and whether an aggregation writes a file: read in the
code alone. Judges that answer: test_lmms_judges.
"""

from __future__ import annotations

import functools
import json as requests  # a module of that name: what it is does not matter, what is asked does
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tokenprune.errors import LmmsError
from tokenprune.tasks.lmms import judges
from tokenprune.tasks.lmms.figures import submits


def by_rule(doc: Any, results: Any) -> dict[str, Any]:
    return {"score": results[0] == doc["answer"]}


def ask(text: str) -> str:
    return requests.dumps(text)


def by_judge(doc: Any, results: Any) -> dict[str, Any]:
    return {"score": [ask(text) for text in results]}


class Evaluator:
    def evaluate(self, text: str) -> str:
        return self.send(text)

    def send(self, text: str) -> str:
        return ask(text)

    def count(self, text: str) -> int:
        return len(text)


evaluator = Evaluator()


def by_object(doc: Any, results: Any) -> dict[str, Any]:
    return {"score": evaluator.evaluate(results[0])}


def by_harmless_method(doc: Any, results: Any) -> dict[str, Any]:
    return {"score": evaluator.count(results[0])}


def mean(results: list[float]) -> float:
    return sum(results) / len(results)


def judged_at_the_end(results: list[str]) -> float:
    return float(ask(results[0]))


def posted(results: list[str], args: Any) -> str:
    return requests.dumps({"to": args.output_path})


def task(score: Callable[..., Any], aggregate: Callable[..., Any] = mean) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(process_results=score), aggregation=lambda: {"score": aggregate}
    )


def test_code_that_scores_tells_whether_it_asks() -> None:
    assert judges.asks(task(by_judge)) and judges.asks(task(functools.partial(by_judge)))
    assert judges.asks(task(by_object)), "through methods of an object"
    assert judges.asks(task(by_rule, judged_at_the_end))
    assert not judges.asks(task(by_rule)) and not judges.asks(task(by_harmless_method))
    assert not judges.asks(task(by_rule, posted)), "a submission is not made here"


def test_an_aggregation_that_reads_lmms_evals_arguments_submits() -> None:
    def unread(results: list[float], args: Any) -> float:
        return mean(results)

    def inside(results: list[float], args: Any) -> Any:
        return [args.output_path for _ in results]

    assert submits(posted) and submits(inside)
    assert submits(functools.partial(posted, args=None))
    assert not submits(unread) and not submits(mean) and not submits(max)


def test_the_judge_is_known_to_lmms_eval_while_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODEL_VERSION", raising=False)
    with judges.called("gpt-4o"):
        assert os.environ["MODEL_VERSION"] == "gpt-4o"
        with judges.called("gpt-4o"):
            pass
        assert os.environ["MODEL_VERSION"] == "gpt-4o"
    assert "MODEL_VERSION" not in os.environ
    with judges.called(judges.OWN):
        assert "MODEL_VERSION" not in os.environ


def test_a_judge_in_the_tasks_own_code_has_another_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.delenv("API_TYPE", raising=False)
    fixed = [("fixed", task(by_judge))]
    monkeypatch.setattr(judges, "VARIABLE", "NO_SUCH_NAME_IN_THIS_" + "FILE")
    with pytest.raises(LmmsError, match=r"fixed names its judge in its own .* judge=task"):
        judges.check("fixed", "gpt-4o", fixed)
    judges.check("fixed", judges.OWN, fixed)
    monkeypatch.setenv("API_TYPE", "azure")
    monkeypatch.delenv("AZURE_API_KEY", raising=False)
    with pytest.raises(LmmsError, match="judge=task needs a key: set AZURE_API_KEY"):
        judges.check("fixed", judges.OWN, fixed)
