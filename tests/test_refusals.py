"""The text of every error that a spec, its options or a budget can cause: one line that says what
to write instead.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arbitrary import blank
from offenders import refusal

from tokenprune import registry
from tokenprune.errors import StrategyError
from tokenprune.registry import build
from tokenprune.strategies.dytok import DyToK
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategy import Condenser, PrefillStage, VisionStage

READS = "reads the attention of the layer below, write a layer from 1 to the last LLM layer"
REFUSED = [
    ("fastvv", {}, "unknown strategy 'fastvv': did you mean 'fastv'? Known: <names>, none"),
    ("xyz", {}, "unknown strategy 'xyz': Known: <names>, none"),
    ("", {}, "unknown strategy '': Known: <names>, none"),
    ("fastv+", {}, "unknown strategy '': Known: <names>, none"),
    (
        "fastv",
        {"fastv.dorp": 0.5},
        "fastv.dorp=0.5: Key 'dorp' not in fastv. Did you mean: 'drop'? (fields of fastv: layer, "
        "drop)",
    ),
    (
        "fastv",
        {"fastv.drop": "half"},
        "fastv.drop=half: Value 'half' of type 'str' could not be converted to Float "
        "(fastv.drop is "
        "float)",
    ),
    (
        "fastv",
        {"fastv.layer": 2.5},
        "fastv.layer=2.5: Value '2.5' of type 'float' could not be converted to Integer "
        "(fastv.layer "
        "is int)",
    ),
    (
        "fastv",
        {"fastv.drop": None},
        "fastv.drop=None: Incompatible value 'None' for field of type 'float' "
        "(fastv.drop is float)",
    ),
    ("fastv", {"fastv.drop": 1.5}, "fastv.drop=1.5 is not a fraction: write a number from 0 to 1"),
    (
        "dycoke",
        {"dycoke.merge": -0.1},
        "dycoke.merge=-0.1 is not a fraction: write a number from 0 to 1",
    ),
    (
        "dycoke",
        {"dycoke.prune": 70},
        "dycoke.prune=70.0 is not a fraction: write a number from 0 to 1",
    ),
    (
        "prumerge",
        {"prumerge.keep": 2},
        "prumerge.keep=2.0 is not a fraction: write a number from 0 to 1",
    ),
    (
        "visionzip",
        {"visionzip.keep": float("nan")},
        "visionzip.keep=nan is not a fraction: write a number from 0 to 1",
    ),
    (
        "random",
        {"random.keep": 25},
        "random.keep=25.0 is not a fraction: write a number from 0 to 1",
    ),
    (
        "uniform",
        {"uniform.keep": 25},
        "uniform.keep=25.0 is not a fraction: write a number from 0 to 1",
    ),
    (
        "dycoke",
        {"dycoke.follow": "code"},
        "dycoke.follow=code: Invalid value 'code', expected one of ['paper', 'released'] "
        "(dycoke.follow is Literal['paper', 'released'])",
    ),
    (
        "fastv+dytok",
        {"dytok.layers": [1, "x"]},
        "dytok.layers=[1, 'x']: Value could not be converted to Integer "
        "(dytok.layers is tuple[int, "
        "int] | None)",
    ),
    (
        "fastv+dytok",
        {"dytok.layers": [16]},
        "dytok.layers=[16]: TupleConfig length 1 does not match type hint length 2 "
        "(dytok.layers is tuple[int, int] | None)",
    ),
    (
        "fastv+dytok",
        {"dytok.layers": [5, 2]},
        "dytok.layers=[5, 2] is not a range: write [FIRST,LAST], 0-based and inclusive",
    ),
    (
        "fastv+dytok",
        {"dytok.cap": 0},
        "dytok.cap=0 leaves no frame a token: write a positive number, or none",
    ),
    (
        "fastv",
        {"dytok.cap": 9},
        "the option 'dytok.cap' belongs to no strategy of fastv: write fastv+dytok to use it",
    ),
    (
        "none",
        {"fastv.drop": 1},
        "the option 'fastv.drop' belongs to no strategy of none: write fastv to use it",
    ),
    (
        "fastv",
        {"fasv.drop": 1},
        "the option 'fasv.drop' belongs to no strategy of fastv: did you mean fastv.drop?",
    ),
    (
        "fastv+uniform",
        {"drop": 1},
        "the option 'drop' belongs to no strategy of fastv+uniform: did you mean fastv.drop?",
    ),
    (
        "fastv",
        {"what.ever": 1},
        "the option 'what.ever' belongs to no strategy of fastv: leave it out",
    ),
    ("fastv", {"fastv": 0.5}, "the option 'fastv' needs a field: write fastv.FIELD=VALUE"),
    (
        "fastv+uniform+fastv",
        {},
        "'fastv' is named twice in fastv+uniform+fastv: name each strategy once",
    ),
    ("dytok", {}, "dytok only redistributes another strategy's budget: write one of <hosts>"),
    (
        "dycoke+fastv+dytok",
        {},
        "dytok redistributes one budget, but dycoke, fastv each have one: write dycoke+dytok or "
        "fastv+dytok",
    ),
    (
        "prumerge+visionzip",
        {},
        "prumerge and visionzip read different saliency (mean_query, received): keep one of them",
    ),
    (
        "prumerge+visionzip",
        {"prumerge.proxy": "received"},
        "prumerge and visionzip read different keys (full, head_mean): keep one of them",
    ),
    ("fastv", {"fastv.layer": 0}, f"fastv.layer=0 prunes nothing: it {READS}"),
    ("dycoke", {"dycoke.layer": -1}, f"dycoke.layer=-1 prunes nothing: it {READS}"),
]


@pytest.mark.parametrize(("spec", "options", "message"), REFUSED)
def test_refusals(spec: str, options: dict[str, Any], message: str) -> None:
    hosts = [
        name
        for name in registry.names()
        if issubclass(kind := registry.get(name), (VisionStage, PrefillStage))
        if not issubclass(kind, Condenser) and kind.reallocates
    ]
    message = message.replace("<names>", ", ".join(registry.names()))
    message = message.replace("<hosts>", ", ".join(f"{name}+dytok" for name in hosts))
    assert refusal(build, spec, options) == message


def test_layers_are_checked_against_the_model() -> None:
    pipeline = build("fastv+dycoke", {"fastv.layer": 4})
    assert pipeline.check(depth=5) is pipeline
    assert refusal(pipeline.check, 4).startswith("fastv.layer=4 prunes nothing")
    assert refusal(pipeline.check, 3).endswith("write a layer from 1 to 2")
    probe = SimpleNamespace(depth=4)
    with pytest.raises(
        StrategyError, match=r"dytok.layers=\[2,5\] does not fit .* up to 3, or leave it out"
    ):
        DyToK.weigh.__wrapped__(DyToK(layers=(2, 5)), probe)  # pyright: ignore[reportFunctionMemberAccess]


def test_budgets_are_checked() -> None:
    tokens, host = blank(4, 10), Uniform(keep=0.5)
    message = refusal((host + DyToK(cap=4)).budget, host, tokens, torch.ones(4))
    assert message == (
        "dytok cannot redistribute the budget of uniform: 20 tokens do not fit: 4 frames hold at "
        "most 16 under their "
        "caps, raise the cap or keep fewer tokens"
    )
    message = refusal((host + DyToK()).budget, host, tokens, torch.zeros(4))
    assert message.endswith("frame weights must be finite, not negative and not all zero")
    message = refusal((host + DyToK()).budget, host, tokens, torch.ones(3))
    assert message == "dytok.weigh gives 3 weights for 4 frames: give one per frame"
