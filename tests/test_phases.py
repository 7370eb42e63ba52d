"""Kinds of passes: each is a type of its own, and a decoding step goes through few files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from models import llava_onevision, prompt

from tokenprune import attach
from tokenprune.compat import caching, filled_cache
from tokenprune.runtime import passes
from tokenprune.runtime.decode import DecodeStep, HidingStep, Turn
from tokenprune.runtime.phase import Phase
from tokenprune.runtime.prefill import Prefill

RUNTIME = Path(passes.__file__).parent
WORD = torch.tensor([[9]])
# in the order in which a step goes through them
STEP = ["hooks", "passes", "tapping", "decode", "attention", "prompt_state"]
HIDING = ["choosing", "watched", "partitioned_cache", "store"]
# who is asked on the way: is there a video, may the cache grow, what time is it; what hangs where
ASIDE = ["media", "cache", "clock", "hanging"]


@pytest.fixture(scope="module")
def model() -> Any:
    return llava_onevision()


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> list[type[Phase]]:
    """The kinds of passes that run in the test, in order."""
    ran: list[type[Phase]] = []
    for kind in (Prefill, Turn, DecodeStep, HidingStep):
        finish = kind.finish

        def noted(self: Any, finish: Any = finish) -> Any:
            if not ran or ran[-1] is not type(self):
                ran.append(type(self))
            return finish(self)

        monkeypatch.setattr(kind, "finish", noted)
    return ran


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ("visionzip", DecodeStep),
        ("fastv+dytok", DecodeStep),
        ("dycoke", HidingStep),
    ],
)
@torch.no_grad()
def test_kinds_of_passes(model: Any, phases: list[type[Phase]], spec: str, step: type) -> None:
    with attach(model, spec):
        cache = filled_cache(model(**prompt(4), use_cache=True))
        assert phases == [Prefill]
        model(input_ids=WORD, **caching(model, cache))
        model(input_ids=WORD.expand(1, 3), **caching(model, cache))
        model(input_ids=WORD, **caching(model, cache))
    assert phases == [Prefill, step, Turn, step]


def test_a_guide_is_not_a_phase(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the model reads the prompt as its own guide, hooks do nothing."""
    entered: list[int] = []
    real = Prefill.enter_layer

    def noted(self: Prefill, layer: int, given: dict[str, Any]) -> Any:
        entered.append(layer)
        return real(self, layer, given)

    monkeypatch.setattr(Prefill, "enter_layer", noted)
    with attach(model, "fastv+dytok", {"fastv.layer": 2}) as session:
        model(**prompt(4))
    assert session.report.probe_layers > 2
    assert entered == [2, 3, 4]


@pytest.mark.parametrize(
    ("spec", "files"),
    [("visionzip", [*STEP, "layout"]), ("fastv", STEP), ("dycoke", [*STEP, *HIDING, "layout"])],
)
@torch.no_grad()
def test_a_decoding_step_goes_through_few_files(model: Any, spec: str, files: list[str]) -> None:
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.parent == RUNTIME:
            seen.add(file.stem)

    with attach(model, spec):
        cache = filled_cache(model(**prompt(4), use_cache=True))
        model(input_ids=WORD, **caching(model, cache))
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            model(input_ids=WORD, **caching(model, cache))
        finally:
            sys.setprofile(before)
    assert seen == {*files, *ASIDE}
