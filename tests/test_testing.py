"""The kit for people who write methods elsewhere: whatever is registered passes, and neither pytest
nor hypothesis is needed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from families import FAMILIES, Ask

from tokenprune import registry, tasks
from tokenprune.adapters import adapt
from tokenprune.errors import StrategyError, UnsupportedModelError
from tokenprune.testing import Report, check_adapter, check_strategy, check_task, models
from tokenprune.testing.prompts import Prompts

ROOT = Path(__file__).parent.parent


def states(report: Report) -> dict[str, str]:
    return {f"{one.group}: {one.law}": one.state for one in report.findings}


@pytest.mark.parametrize("name", registry.names())
def test_whatever_is_registered_keeps_all_laws(name: str) -> None:
    report = check_strategy(name, models=["toy"], show=False, cases=12)
    assert len(report.of("passed")) > 10


@pytest.mark.parametrize("name", ["uniform", "dycoke"])
def test_on_the_embedded_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_strategy(registry.get(name), cases=2)
    found = states(report)
    assert found["the model tiny: batches"] == found["toy model: batches"] == "passed"
    said = capsys.readouterr().out
    assert report.headline in said and "the model tiny" in said and "passed" in said


def test_options_are_those_of_the_instance() -> None:
    deep = registry.build("fastv", {"fastv.layer": 40}).strategies[0]
    found = states(check_strategy(deep, show=False, cases=2))
    assert found["PrefillStage: budget"] == found["toy model: answers"] == "passed"
    assert found["tiny: attach"] == "not applicable", "it has six layers"


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(StrategyError, match="unknown strategy 'unifrom': did you mean 'uniform'"):
        check_strategy("unifrom")
    with pytest.raises(StrategyError, match=r"unknown strategy 'uniform\+fastv'"):
        check_strategy("uniform+fastv")


ALONE = """
import sys
for name in ("pytest", "hypothesis", "beartype"):
    sys.modules[name] = None
from tokenprune.testing import BrokenLawsError, check_strategy
from tokenprune.strategies.uniform import Uniform
report = check_strategy(Uniform(keep=0.5), cases=3)
assert report.broken == (), report

class Loud(Uniform):
    def compress(self, tokens, budget):
        kept = super().compress(tokens, budget)
        return kept.with_features(2 * kept.features)

try:
    check_strategy(Loud(), cases=3)
except BrokenLawsError as error:
    print(error)
    sys.exit(5)
"""


def test_it_needs_neither_pytest_nor_hypothesis_nor_assert() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-c", ALONE], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 5, done.stderr
    assert "uniform (Uniform): " in done.stdout and "the model tiny" in done.stdout
    assert "Loud (Loud) breaks 2 laws:\n  VisionStage: identity: a full budget" in done.stdout
    assert "VisionStage: untouched: changed features, and says merges = False" in done.stdout
    assert done.stderr == ""


def test_torch_is_left_as_it_was() -> None:
    import torch

    torch.manual_seed(3)
    threads, expected = torch.get_num_threads(), torch.rand(1)
    torch.manual_seed(3)
    check_strategy("uniform", models=["toy"], show=False, cases=2)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == threads


# tasks


@pytest.mark.parametrize("name", tasks.names())
def test_tasks_keep_all_laws(name: str) -> None:
    assert len(check_task(name, show=False).of("passed")) > 9


# adapters


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_keep_all_laws(kind: str) -> None:
    family = FAMILIES[kind]
    asks = [Ask(4, family.clips[:1], 5), Ask(1, family.clips[1:], 8)]
    prompt = family.prompt(asks)
    prompts = Prompts(prompt.inputs, prompt.alone)
    report = check_adapter(family.model(), prompts=prompts, strategies=["dycoke"], show=False)
    assert len(report.of("passed")) >= 13
    silent = {one.law for one in report.of("not applicable")}
    # a Qwen model of transformers counts positions by itself in `generate` alone
    assert silent <= ({"gone", "word by word"} if family.mrope else {"gone"})


def test_a_family_writes_its_own_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    """As its `preparation` says; from a model, an adapter, or the name of a checkpoint."""
    for live in models.toys(4):
        assert len(check_adapter(adapt(live.model), strategies=[], show=False).of("passed")) == 9
    assert len(check_adapter("nano").findings) > 30
    assert "llava_onevision (LlavaOnevision)" in capsys.readouterr().out


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="expected a loaded model, not None"):
        check_adapter(None)
