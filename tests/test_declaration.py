"""The class of a strategy: what it must be before it is built; and what is said of a budget of
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from models import llava_onevision, prompt
from offenders import DOCS, Guide, Hider, Keeper, Mine, Pruner, refusal

from tokenprune import registry
from tokenprune.cli.main import main
from tokenprune.declaration import check_class
from tokenprune.errors import StrategyError
from tokenprune.runtime.session import attach
from tokenprune.strategy import Pipeline, PrefillStage, Strategy, VisionStage

# --- classes
# ----------------------------------------------------------------------------------

BODY: dict[str, Any] = {"quota": Mine.quota, "compress": Mine.compress}


def made(decorate: Any, bases: tuple[type, ...] = (VisionStage,), **body: Any) -> Any:
    return decorate(type("Odd", bases, BODY | body))


frozen = dataclass(frozen=True)
CLASSES: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: made(lambda kind: kind),
        "is not a dataclass: write @dataclass(frozen=True) above class Odd",
    ),
    (lambda: made(dataclass), "is not frozen: write @dataclass(frozen=True) above class Odd"),
    (
        lambda: made(frozen, keep=0.5),
        "has keep without an annotation, so no option can set it: write keep: float = 0.5, or "
        "keep: "
        "ClassVar = 0.5 for a",
    ),
    (
        lambda: made(frozen, layer=None),
        "has layer without an annotation, so no option can set it: write layer: int | None = None, "
        "or",
    ),
    (
        lambda: made(frozen, memory={}),
        "has memory without an annotation, so no option can set it: write memory: ClassVar = {} "
        "for a "
        "constant, and",
    ),
    (
        lambda: made(lambda kind: kind, (Mine,), keep=0.5, __annotations__={"keep": float}),
        "has keep, which is not a field, since Odd is not a dataclass: write "
        "@dataclass(frozen=True) "
        "above class Odd",
    ),
    (
        lambda: frozen(type("Odd", (VisionStage,), {"quota": Mine.quota})),
        "lacks compress: define every method of its",
    ),
    (
        lambda: made(frozen, (Strategy,)),
        "has no stage: inherit one or more of Allocator, VisionStage, Condenser, PrefillStage",
    ),
    (
        lambda: made(frozen, (PrefillStage,), prune=Pruner.prune),
        "does not say before which LLM layer it acts: add a field, as in layer: int = 2",
    ),
]


@pytest.mark.parametrize(("define", "message"), CLASSES)
def test_a_class_that_breaks_the_contract(define: Callable[[], Any], message: str) -> None:
    said = refusal(check_class, define())
    assert said.startswith(f"offenders.py: class Odd {message}") and said.endswith(DOCS)


def test_classes_that_keep_it() -> None:
    annotations = {"keep": float, "table": ClassVar[dict[str, int]]}
    check_class(made(frozen, keep=0.5, table={}, WINDOW=4, _hidden=1, __annotations__=annotations))
    check_class(made(lambda kind: kind, (Mine,), name="odd"))  # what it adds is no option
    for kind in (Mine, Pruner, Hider, Guide, Keeper):
        check_class(kind)


def test_a_class_is_checked_where_a_pipeline_is_built_by_hand() -> None:
    model = llava_onevision()
    assert "class Odd is not frozen" in refusal(attach, model, Pipeline((made(dataclass)(),)))


def test_fields_that_are_no_options() -> None:
    @dataclass(frozen=True)
    class Odd(VisionStage, name="odd"):
        wrong: Callable[[], int] = lambda: 1

        quota, compress = Mine.quota, Mine.compress

    said = refusal(registry.build, "odd")
    assert said.startswith(
        "test_declaration.py: the fields of class Odd are not options (Unexpected type annotation"
    )
    assert said.endswith("annotate them as numbers, words, switches, or tuples of these")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("odd.keep=2 is too much\nsee below"), StrategyError, "odd.keep=2 is too much"),
        (ValueError(), StrategyError, "odd.__post_init__ refuses its options without a word"),
        (KeyError("keep"), KeyError, "keep"),
    ],
)
def test_what_fields_may_refuse(error: Exception, kind: type[Exception], message: str) -> None:
    """A ValueError speaks to the user; any other one is the author's bug, and says so."""

    @dataclass(frozen=True)
    class Odd(VisionStage, name="odd"):
        quota, compress = Mine.quota, Mine.compress

        def __post_init__(self) -> None:
            raise error

    with pytest.raises(kind, match=message) as caught:
        registry.build("odd")
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == (kind is KeyError)
    assert all(
        note.startswith("test_declaration.py: Odd.__post_init__ raised KeyError") for note in notes
    )


# --- nothing left
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "options", "layer"),
    [("uniform", {"uniform.keep": 0}, 0), ("fastv", {"fastv.drop": 1}, 2)],
)
def test_a_budget_of_nothing_is_legal_and_remarked_on_once(
    spec: str, options: dict[str, Any], layer: int
) -> None:
    model = llava_onevision()
    with attach(model, spec, options) as session, torch.no_grad():
        said = (
            rf"{spec} leaves no token of a video from LLM layer {layer} on: the answer is made "
            r"without it"
        )
        with pytest.warns(UserWarning, match=said):
            model(**prompt(4))
        model(**prompt(4))  # warnings are errors
    assert [report.unseen_from for report in session.reports] == [layer, layer]
    assert session.report[0].as_dict()["unseen_from"] == layer


def test_most_prompts_see_something() -> None:
    model = llava_onevision()
    with attach(model, "uniform", {"uniform.keep": 1 / 36}) as session, torch.no_grad():
        model(**prompt(4))
    assert session.report.unseen_from is session.report[0].unseen_from is None


def test_a_run_says_for_how_many_samples_nothing_was_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "model=nano",
        "strategy=uniform",
        "uniform.keep=0",
        "limit=1",
        "max_new_tokens=2",
        f"out={tmp_path / 'run'}",
    ]
    assert main(["run", *words]) == 0
    captured = capsys.readouterr()
    assert "uniform left no visual token in some LLM layer for 1 of 1 samples" in " ".join(
        captured.out.split()
    )
    assert "Warning" not in captured.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [summary["systems"][role]["unseen"] for role in ("vanilla", "strategy")] == [0, 1]
