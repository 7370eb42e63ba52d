"""Every breach of the contract ends in one sentence that names the file, the class, what it did and
the rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from arbitrary import draws, video
from models import llava_onevision, prompt
from offenders import DOCS, Guide, Hider, Keeper, Mine, Pruner, half, refusal
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import StrategyError
from tokenprune.guards import contract, masks, vision
from tokenprune.runtime.session import attach
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategy import (
    Adjustable,
    Extent,
    Pipeline,
    Strategy,
    TowerReader,
    VisionStage,
)
from tokenprune.tokens import TEXT, SequenceView, Signals, VisualTokens

TOKENS = video(draws(1, 4 * 9, 5), 9, draws(2, 36).abs(), draws(3, 36, 2))
VIEW = SequenceView(
    torch.tensor([TEXT, 0, 0, 0, 1, 1, TEXT]), torch.arange(7), draws(4, 7).softmax(0)
)


def forged(tokens: VisualTokens, **changed: Any) -> VisualTokens:
    """Tokens that jaxtyping would not let pass, as it is not there outside the tests."""
    made = object.__new__(VisualTokens)
    for part in dataclasses.fields(tokens):
        object.__setattr__(made, part.name, changed.get(part.name, getattr(tokens, part.name)))
    return made


def kept(change: Callable[[VisualTokens], VisualTokens]) -> Callable[[Any, Any], Any]:
    return lambda tokens, budget: change(half(tokens, budget))


def again(tokens: VisualTokens) -> VisualTokens:
    """The second token of frame 3 once more, in place of the third."""
    rows = torch.arange(len(tokens))
    third = int((tokens.frame == 3).nonzero()[2])
    rows[third] = third - 1
    return tokens[rows]


def nan(tokens: VisualTokens) -> VisualTokens:
    features = tokens.features.clone()
    features[5, 1] = torch.nan
    return tokens.with_features(features)


EARLY: dict[str, tuple[Any, str]] = {
    "a tensor": (lambda tokens, budget: tokens.features, "returned float32[36, 5]: a vision stage"),
    "nothing": (lambda tokens, budget: None, "returned None: a vision stage returns VisualTokens"),
    "not the budget": (
        lambda tokens, budget: tokens,
        "kept [9, 9, 9, 9] tokens per frame where its budget was [4, 4, 4, 4]: a stage keeps "
        "exactly its budget",
    ),
    "a slot twice": (
        kept(again),
        "returned slot 3 of frame 3 twice: every slot of a frame at most once",
    ),
    "a slot that never was": (
        kept(lambda tokens: replace(tokens, slot=tokens.slot + 9)),
        "returned slot 10 of frame 0, which its input does not have: every slot of a frame "
        "at most once",
    ),
    "a negative slot": (
        kept(lambda tokens: replace(tokens, slot=tokens.slot - 9)),
        "returned slot -8 of frame 0",
    ),
    "a frame that never was": (
        kept(lambda tokens: replace(tokens, frame=tokens.frame + 1)),
        "returned slot 1 of frame 4, which its input does not have",
    ),
    "frames in reverse": (
        kept(lambda tokens: tokens[torch.arange(len(tokens)).flip(0)]),
        "returned frames [3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, ...]: frames stay in order",
    ),
    "nan": (kept(nan), "returned nan or inf at slot 3 of frame 1: features are finite"),
    "inf": (
        kept(lambda tokens: tokens.with_features(tokens.features / 0.0)),
        "returned nan or inf at slot 1 of frame 0: features are finite",
    ),
    "another width": (
        kept(lambda tokens: forged(tokens, features=tokens.features[:, :4])),
        "returned float32[16, 4] for float32[36, 5]: features keep width, dtype and device",
    ),
    "another dtype": (
        kept(lambda tokens: replace(tokens, features=tokens.features.half())),
        "returned float16[16, 5] for float32[36, 5]: features keep width, dtype and device "
        "(tokens.with",
    ),
    "another device": (
        kept(lambda tokens: replace(tokens, features=tokens.features.to("meta"))),
        "returned float32[16, 5] on meta for float32[36, 5]: features keep width, dtype and device",
    ),
    "more rows than slots": (
        kept(lambda tokens: forged(tokens, slot=tokens.slot[:5])),
        "returned int64[5] as slot for float32[16, 5]: all tensors of VisualTokens have one row "
        "per token",
    ),
    "keys of all tokens": (
        lambda tokens, budget: forged(half(tokens, budget), keys=tokens.keys),
        "returned float32[36, 2] as keys for float32[16, 5]: all tensors",
    ),
    "float slots": (
        kept(lambda tokens: forged(tokens, slot=tokens.slot.float())),
        "returned float32[16] as slot: frame and slot are whole numbers",
    ),
    "fewer frames": (
        kept(lambda tokens: replace(tokens, frames=3)),
        "returned 3 frames of 9 cells for 4 of 9",
    ),
    "features written": (
        lambda tokens, budget: (tokens.features.mul_(2), half(tokens, budget))[1],
        "wrote into features of its input: the input is read only: clone() what you change",
    ),
    "keys written": (
        lambda tokens, budget: (tokens.keys.zero_(), half(tokens, budget))[1],
        "wrote into keys of its",
    ),
    "slots written": (
        lambda tokens, budget: (tokens.slot.add_(0), half(tokens, budget))[1],
        "wrote into slot of its",
    ),
    "a view written": (
        lambda tokens, budget: (tokens.features.view(4, 9, 5)[1].fill_(0), half(tokens, budget))[1],
        "wrote into features of its input",
    ),
    "written through NumPy": (
        lambda tokens, budget: (tokens.features.numpy().fill(7), half(tokens, budget))[1],
        "wrote into features of its input",
    ),
    "the budget written": (
        lambda tokens, budget: (budget.sub_(1), half(tokens, budget))[1],
        "wrote into budget of its input",
    ),
}


def run(pipeline: Pipeline, tokens: VisualTokens) -> contract.Counts:
    (stage,) = pipeline.of(VisionStage)
    budget = pipeline.budget(stage, tokens, None)
    return vision.kept(stage, tokens, budget, contract.ask(stage, "compress", tokens, budget))


def fresh() -> VisualTokens:
    parts = {name: part.clone() for name, part in vars(TOKENS).items() if isinstance(part, Tensor)}
    return replace(TOKENS, **parts)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("case", EARLY)
def test_a_vision_stage(case: str, inference: bool) -> None:
    wrong, message = EARLY[case]
    with torch.inference_mode(inference):
        assert run(Pipeline((Mine(),)), fresh()) == ([9] * 4, [4] * 4, [4] * 4)
        said = refusal(run, Pipeline((Mine(wrong),)), fresh())
    if inference and "wrote" in message and "NumPy" not in case and "budget" not in case:
        assert said.startswith("offenders.py: Mine.compress wrote into its input in line ")
    else:
        assert said.startswith(f"offenders.py: Mine.compress {message}")
    assert said.endswith(DOCS)


def test_what_a_vision_stage_may_do() -> None:
    """Another order within a frame, keys left out, whole numbers of another kind; and a model's own
    nan is not its.
    """
    tokens = replace(TOKENS, features=TOKENS.features / 0.0)
    run(Pipeline((Mine(),)), tokens)

    def order(tokens: VisualTokens) -> VisualTokens:
        rows = torch.arange(16).unflatten(0, (4, 4)).flip(1).flatten()
        return replace(tokens[rows], keys=None, saliency=None)

    assert (
        run(
            Pipeline((Mine(kept(order), lambda tokens: ops.count(tokens.counts, 0.5).int()),)),
            TOKENS,
        )[2]
        == [4] * 4
    )


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (
            lambda tokens: tokens.counts * 0.5,
            "returned float32[4]: a quota is one whole number per frame",
        ),
        (lambda tokens: tokens.counts > 3, "returned bool[4]: a quota is"),
        (lambda tokens: 4, "returned int: a quota is"),
        (lambda tokens: [4, 4, 4, 4], "returned list: a quota is"),
        (lambda tokens: None, "returned None: a quota is"),
        (lambda tokens: tokens.counts[:3], "returned int64[3] for 4 frames: a quota is"),
        (
            lambda tokens: tokens.counts.unsqueeze(0),
            "returned int64[1, 4] for 4 frames: a quota is",
        ),
        (lambda tokens: tokens.counts.sum(), "returned int64[] for 4 frames: a quota is"),
        (
            lambda tokens: tokens.counts.to("meta"),
            "returned int64[4] on meta for 4 frames: a quota is",
        ),
        (
            lambda tokens: tokens.counts - 10,
            "asks for [-1, -1, -1, -1] tokens per frame, there are [9, 9, 9, 9]",
        ),
    ],
)
def test_a_quota(share: Any, message: str) -> None:
    said = refusal(run, Pipeline((Mine(share=share),)), TOKENS)
    assert said.startswith(f"offenders.py: Mine.quota {message}")


MASKS: list[tuple[Any, str]] = [
    (
        lambda view: view.position + 1,
        "returned int64[7] for 7 rows: a mask has one true or false per row",
    ),
    (lambda view: ~view.visual[:5], "returned bool[5] for 7 rows: a mask"),
    (lambda view: (~view.visual).to("meta"), "returned bool[7] on meta for 7 rows: a mask"),
    (lambda view: [True] * 7, "returned list for 7 rows: a mask"),
    (lambda view: None, "returned None for 7 rows: a mask"),
]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *MASKS,
        (
            lambda view: (view.position != 0) & (view.position != 1) & (view.position != 4),
            "dropped 1 text rows: text rows always survive",
        ),
        (
            lambda view: view.position > -1,
            "kept [3, 2] tokens per frame where its budget was [2, 1]: a stage keeps",
        ),
    ],
)
def test_a_prefill_stage(wrong: Any, message: str) -> None:
    good, bad = Pruner(lambda view: (view.position != 1) & (view.position != 4)), Pruner(wrong)
    budget = torch.tensor([2, 1])
    assert masks.survivors(good, VIEW, budget, good.prune(VIEW, budget)).counts() == (
        [3, 2],
        [2, 1],
        [2, 1],
    )
    said = refusal(masks.survivors, bad, VIEW, budget, bad.prune(VIEW, budget))
    assert said.startswith(f"offenders.py: Pruner.prune {message}")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *[
            (lambda view, state, wrong=wrong: (wrong(view), state), message)
            for wrong, message in MASKS
        ],
        (
            lambda view, state: view.visual,
            "returned bool[7]: attend returns a mask and the next state",
        ),
        (lambda view, state: None, "returned None: attend returns a mask and the next state"),
        (lambda view, state: (view.visual, state), "hid text rows: every step sees all text"),
        (lambda view, state: (view.frame.fill_(TEXT), state), "wrote into frame of its input"),
    ],
)
def test_a_decode_stage(wrong: Any, message: str) -> None:
    view = replace(VIEW, frame=VIEW.frame.clone())
    assert masks.shown(Hider(lambda view, state: (~view.visual, 1)), view, None, True, 0)[1] == 1
    counting = Hider(lambda view, state: (~view.visual, state + 1))
    assert masks.shown(counting, view, torch.tensor(1), True, 0)[1] == 2
    said = refusal(masks.shown, Hider(wrong), view, None, True, 0)
    assert said.startswith(f"offenders.py: Hider.attend {message}")


def test_every_sample_starts_with_a_state_of_its_own() -> None:
    shared: list[int] = []
    said = refusal(masks.start, Hider(lambda view, state: state, lambda: shared))
    assert said.startswith(
        "offenders.py: Hider.start returned the same list twice: every sample starts anew"
    )
    for begin in (list, lambda: None, lambda: (1, 2)):
        assert masks.start(Hider(lambda view, state: state, begin)) == begin()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            torch.tensor([1.0, torch.nan, 1.0, 1.0]),
            "returned [1.0, nan, 1.0, 1.0]: an allocator returns one weight per",
        ),
        (torch.tensor([1.0, -0.5, 1.0, 1.0]), "returned [1.0, -0.5, 1.0, 1.0]: an allocator"),
        (torch.tensor([1.0, torch.inf, 1.0, 1.0]), "returned [1.0, inf, 1.0, 1.0]: an allocator"),
        (torch.zeros(4), "returned [0.0, 0.0, 0.0, 0.0]: an allocator"),
        (torch.ones(3), "returned float32[3] for 4 frames: an allocator"),
        (torch.ones(4, 1), "returned float32[4, 1] for 4 frames: an allocator"),
        ([1.0] * 4, "returned list: an allocator"),
        (torch.ones(4, dtype=torch.bool), "returned bool[4]: an allocator"),
        (None, "returned None: an allocator"),
    ],
)
def test_weights(given: Any, message: str) -> None:
    said = refusal(contract.weights, Guide(lambda probe: given), 4, given)
    assert said.startswith(f"offenders.py: Guide.weigh {message}")
    assert contract.weights(Guide(lambda probe: None), 2, torch.tensor([0, 3])).tolist() == [
        0.0,
        3.0,
    ]


# state


STATES: dict[str, Callable[[Any], None]] = {
    "seen": lambda self: object.__setattr__(self, "seen", 1),
    "how": lambda self: object.__setattr__(self, "how", None),
    "fresh": lambda self: vars(self).update(fresh=[]),
    "shared": lambda self: self.shared.append(1),
    "count": lambda self: setattr(type(self), "count", type(self).count + 1000),
    "late": lambda self: setattr(type(self), "late", 1),
}


@pytest.mark.parametrize("name", STATES)
def test_state_on_the_instance_or_the_class(name: str) -> None:
    said = refusal(run, Pipeline((Keeper(STATES[name]),)), TOKENS)
    assert said.startswith(
        f"offenders.py: Keeper.compress changed {name}: keep no state on the instance or the class"
    )
    if name == "late":
        del Keeper.late  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_no_state() -> None:
    """What follows from the fields, computed once; and a list that the caller gave to be written
    to.
    """
    notes: list[int] = []
    for how in (lambda self: self.table, lambda self: self.notes.append(1)):
        run(Pipeline((Keeper(how, notes),)), TOKENS)
    assert notes == [1]


# through a model


@pytest.mark.parametrize(
    "stages",
    [
        (Mine(kept(again)),),
        (Mine(lambda tokens, budget: (tokens.features.zero_(), half(tokens, budget))[1]),),
        (Mine(share=lambda tokens: tokens.counts / 2),),
        (Pruner(lambda view: view.position > 0),),
        (Hider(lambda view, state: (view.visual, state)),),
        (Mine(), Guide(lambda probe: torch.full((probe.frames,), torch.nan))),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_breach_ends_generation(stages: tuple[Any, ...], mode: Any) -> None:
    model = llava_onevision()
    with (
        attach(model, Pipeline(stages)),
        mode(),
        pytest.raises(StrategyError, match=r"^offenders\.py: .*strategy\.md"),
    ):
        model.generate(**prompt(4), max_new_tokens=3, do_sample=False)


def test_signals_are_words_that_are_known() -> None:
    @dataclass(frozen=True)
    class Reader(VisionStage, TowerReader):
        wanted: Any

        def signals(self) -> Any:
            return self.wanted

        quota, compress = Mine.quota, Mine.compress

    assert Pipeline((Reader(Signals(keys="full")),)).check()
    unknown: Any = "rollout"
    said = refusal(Pipeline((Reader(Signals(saliency=unknown)),)).check)
    assert said.startswith(
        "test_contract.py: Reader.signals returned 'rollout': Signals(saliency=...) is one of "
        "['received'"
    )
    assert "returned 'keys': Signals(" in refusal(Pipeline((Reader("keys"),)).check)


def test_a_budget_is_set_on_the_same_strategy() -> None:
    @dataclass(frozen=True)
    class Other(Mine, Adjustable):
        def retaining(self, ratio: float, extent: Extent) -> Strategy:
            return Uniform()

    said = refusal(Pipeline((Other(),)).retaining, 0.5, Extent(4, 9, 5))
    assert (
        said == "test_contract.py: Other.retaining returned Uniform: it returns itself with other "
        f"options{DOCS}"
    )
