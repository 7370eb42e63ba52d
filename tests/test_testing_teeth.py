"""Every law of the kit breaks for something that breaks it, and is named in one error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from offenders import Guide, Hider, Keeper
from test_contract import STATES
from torch import Tensor

from tokenprune import ops
from tokenprune.adapters.llava_onevision import LlavaOnevision
from tokenprune.lookup import FAMILIES
from tokenprune.strategy import (
    Adjustable,
    Condenser,
    Extent,
    PrefillStage,
    Strategy,
    TowerReader,
    VisionStage,
)
from tokenprune.tasks import Label, Sample, Task
from tokenprune.testing import (
    BrokenLawsError,
    Report,
    check_adapter,
    check_strategy,
    check_task,
    models,
)
from tokenprune.tokens import SequenceView, Signals, Survivors, VisualTokens


def broken(check: Callable[..., Report], thing: Any, **how: Any) -> set[str]:
    """The names of the laws that a thing breaks."""
    with pytest.raises(BrokenLawsError) as caught:
        check(thing, show=False, **how)
    findings = caught.value.report.broken
    assert str(caught.value).count("(the law: ") == len(findings)
    assert all(one.said and "\n" not in one.said for one in findings)
    return {finding.law for finding in findings}


def applied(strategy: Strategy, **how: Any) -> dict[str, str]:
    """The laws that apply to a strategy, which keeps them."""
    report = check_strategy(strategy, show=False, **{"models": [], **how})
    return {one.law: one.state for one in report.findings if one.state != "not applicable"}


def first(tokens: VisualTokens, budget: Tensor) -> VisualTokens:
    """The first tokens of every frame."""
    _, valid = ops.by_frame(tokens.slot, tokens.counts)
    return tokens[(valid.cumsum(-1) <= budget.unsqueeze(-1))[valid]]


def counted(change: Callable[[int, VisualTokens], Any]) -> Callable[[Any, VisualTokens], Any]:
    """What keeps in mind how often it was called."""
    calls: list[int] = []

    def call(_: Any, kept: VisualTokens) -> Any:
        calls.append(1)
        return change(len(calls), kept)

    return call


def as_it_is(tokens: Any, kept: Any) -> Any:
    return kept


@dataclass(frozen=True)
class Thin(VisionStage):
    """The first half of every frame, with something wrong in it."""

    wrong: Callable[[Any, Any], Any] = as_it_is
    share: Callable[[Any], Any] = lambda tokens: tokens.counts // 2

    def quota(self, tokens: VisualTokens) -> Any:
        return self.share(tokens)

    def compress(self, tokens: VisualTokens, budget: Tensor) -> Any:
        return self.wrong(tokens, first(tokens, budget))


WRONG: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "backwards": (lambda tokens, kept: kept[torch.arange(len(kept)).flip(0)], "addresses"),
    "twice": (
        lambda tokens, kept: kept[torch.arange(len(kept)).clamp(min=1)] if len(kept) > 1 else kept,
        "addresses",
    ),
    "strange": (lambda tokens, kept: replace(kept, slot=kept.slot + tokens.cells), "addresses"),
    "wider": (lambda tokens, kept: replace(kept, features=kept.features.double()), "form"),
    "nan": (lambda tokens, kept: kept.with_features(kept.features * torch.nan), "form"),
    "fewer frames": (lambda tokens, kept: replace(kept, cells=kept.cells + 1), "form"),
    "list": (lambda tokens, kept: [kept], "form"),
    "chance": (
        lambda tokens, kept: kept.with_features(torch.rand_like(kept.features)),
        "deterministic",
    ),
    "memory": (
        counted(lambda n, kept: kept.with_features(kept.features + n)),
        "deterministic",
    ),
    "writes": (lambda tokens, kept: (tokens.features.add_(1), kept)[1], "read only"),
    "writes and takes back": (
        lambda tokens, kept: (tokens.slot.add_(1), tokens.slot.sub_(1), kept)[2],
        "stateless",
    ),
    "mixes": (
        lambda tokens, kept: kept.with_features(kept.features - tokens.features.float().mean()),
        "isolation",
    ),
    "merges": (lambda tokens, kept: kept.with_features(kept.features * 2), "untouched"),
    "too few members": (
        lambda tokens, kept: replace(kept, members=kept.frame.new_zeros(len(tokens) + 1)),
        "members",
    ),
    "members of others": (
        lambda tokens, kept: replace(kept, members=kept.frame.new_full((len(tokens),), -1)),
        "members",
    ),
    "members past the end": (
        lambda tokens, kept: replace(kept, members=kept.frame.new_full((len(tokens),), len(kept))),
        "members",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_vision_stage(case: str) -> None:
    wrong, law = WRONG[case]
    assert law in broken(check_strategy, Thin(wrong), models=[])


def test_a_vision_stage_that_is_right() -> None:
    laws = {"declared", "alone", "quota", "budget", "identity", "form", "addresses"}
    laws |= {"deterministic", "read only", "isolation", "untouched", "stateless", "events"}
    assert {*applied(Thin())} == laws
    assert {*applied(Thin(), models=["toy"])} > laws | {"batches", "further turns"}


def test_a_vision_stage_with_another_budget() -> None:
    assert broken(check_strategy, Thin(lambda tokens, kept: tokens), models=["toy"]) >= {
        "budget",
        "answers",
        "batches",
    }


@pytest.mark.parametrize("name", STATES)
def test_state_on_the_instance_or_the_class(name: str) -> None:
    kept = dict(vars(Keeper))
    assert "stateless" in broken(check_strategy, Keeper(STATES[name]), models=[])
    for other in {*vars(Keeper)} - {*kept}:
        delattr(Keeper, other)
    Keeper.shared.clear()
    assert "stateless" in applied(Keeper())


@pytest.mark.parametrize(
    "share",
    [
        lambda tokens: tokens.counts / 2,
        lambda tokens: tokens.counts + 1,
        lambda tokens: tokens.counts[1:],
        lambda tokens: 4,
    ],
)
def test_a_quota(share: Any) -> None:
    assert "quota" in broken(check_strategy, Thin(share=share), models=[])


def test_an_exception_is_told_with_its_line() -> None:
    def wrong(tokens: Any, kept: Any) -> Any:
        return kept.gone

    with pytest.raises(BrokenLawsError) as caught:
        check_strategy(Thin(wrong), models=[], show=False)
    line = wrong.__code__.co_firstlineno + 1
    said = f"raised AttributeError in line {line}: 'VisualTokens' object has no attribute 'gone'"
    assert {one.said for one in caught.value.report.broken} == {said}
    assert isinstance(caught.value.__cause__, AttributeError)


def test_what_a_class_says_about_itself() -> None:
    @dataclass(frozen=True)
    class Vague(Thin):
        positions: ClassVar[Any] = "somewhere"

    assert "declared" in broken(check_strategy, Vague(), models=[])

    @dataclass(frozen=True)
    class Mixed(Thin):
        mixes_frames: ClassVar[bool] = True
        merges: ClassVar[bool] = True

    def centred(tokens: VisualTokens, kept: VisualTokens) -> VisualTokens:
        return kept if len(kept) == len(tokens) else WRONG["mixes"][0](tokens, kept)

    assert {"isolation", "untouched"} <= broken(check_strategy, Thin(centred), models=[])
    assert not {"isolation", "untouched"} & {*applied(Mixed(centred))}


def test_a_stage_with_a_budget_of_its_own() -> None:
    """Where no allocator may host, nobody asks it for another budget."""

    @dataclass(frozen=True)
    class Own(VisionStage):
        reallocates: ClassVar[bool] = False

        def quota(self, tokens: VisualTokens) -> Tensor:
            return tokens.counts // 2

        def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
            return first(tokens, tokens.counts // 2)

    assert "identity" in applied(Own()), "of videos without a token"
    Own.reallocates = True
    assert broken(check_strategy, Own(), models=[]) == {"budget", "identity"}


# --- signals


@pytest.mark.parametrize(
    "wanted",
    [
        Signals(saliency="received"),
        Signals(keys="full"),
        Signals(tower="projector_input"),
        Signals(text="behind"),
        Signals(saliency="cls"),
        Signals(saliency="pseudo_cls", keys="head_mean", tower="projector_input", text="behind"),
    ],
)
def test_a_reader_gets_what_it_asks_for_and_nothing_else(wanted: Signals) -> None:
    @dataclass(frozen=True)
    class Reader(Thin, TowerReader):
        wanted: Signals = Signals()  # noqa: RUF009

        def signals(self) -> Signals:
            return self.wanted

        def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
            asked = [name for name in Signals._fields if getattr(wanted, name)]
            for name in asked:
                self.recorded(tokens, name)  # pyright: ignore[reportArgumentType]
            return first(tokens, budget)

    assert applied(Reader(wanted=wanted), models=["toy"])["batches"] == "passed"
    found = check_strategy(Reader(), models=[], show=False)
    assert {one.law: one.state for one in found.findings}["budget"] == "not applicable"


def test_signals_that_nobody_knows() -> None:
    @dataclass(frozen=True)
    class Odd(Thin, TowerReader):
        def signals(self) -> Any:
            return "keys"

    assert broken(check_strategy, Odd()) >= {"alone"}


# --- condensers


@dataclass(frozen=True)
class Even(Condenser):
    """Every second token, with something wrong in it."""

    wrong: Callable[[Any, Any], Any] = as_it_is

    def condense(self, tokens: VisualTokens) -> Any:
        return self.wrong(tokens, tokens[tokens.slot % 2 == 0])


@pytest.mark.parametrize("case", WRONG)
def test_a_condenser(case: str) -> None:
    wrong, law = WRONG[case]
    assert law in broken(check_strategy, Even(wrong), models=[])


def test_a_condenser_that_is_right() -> None:
    found = applied(Even(), models=["toy"])
    assert {"number", "form", "isolation", "untouched", "batches"} <= {*found}
    assert not {"quota", "budget", "identity"} & {*found}


def test_a_condenser_that_makes_tokens() -> None:
    def more(tokens: VisualTokens, kept: VisualTokens) -> VisualTokens:
        return tokens[torch.arange(len(tokens)).repeat_interleave(2)]

    assert {"number", "addresses"} <= broken(check_strategy, Even(more), models=[])


# --- prefill stages


@dataclass(frozen=True)
class Late(PrefillStage):
    """The first half of every frame before each of some layers, with something wrong in it."""

    wrong: Callable[[Any, Any], Any] = as_it_is
    where: Callable[[int], Any] = lambda depth: (1, depth // 2)

    def layers(self, depth: int) -> Any:
        return self.where(depth)

    def quota(self, view: SequenceView) -> Tensor:
        return (view.counts + 1) // 2

    def prune(self, view: SequenceView, budget: Tensor) -> Any:
        _, valid = ops.by_frame(view.slot[view.visual], view.counts)
        kept = ~view.visual
        kept[view.visual] = (valid.cumsum(-1) <= budget.unsqueeze(-1))[valid]
        return self.wrong(view, kept.nonzero().squeeze(-1))


def states_of(view: SequenceView, rows: Tensor) -> Tensor:
    return view.hidden[rows]


SURVIVORS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "no text": (lambda view, rows: Survivors(rows[view.visual[rows]]), "text"),
    "text backwards": (
        lambda view, rows: Survivors(torch.cat([rows[view.visual[rows]], words(view).flip(0)])),
        "text",
    ),
    "text changed": (lambda view, rows: Survivors(rows, states_of(view, rows) + 1), "text"),
    "all": (lambda view, rows: Survivors(torch.arange(len(view.frame))), "budget"),
    "twice": (lambda view, rows: Survivors(torch.cat([rows, rows[-1:]])), "once"),
    "outside": (lambda view, rows: Survivors(rows + len(view.frame)), "form"),
    "double": (lambda view, rows: Survivors(rows, states_of(view, rows).double()), "form"),
    "too few states": (lambda view, rows: Survivors(rows, view.hidden[:1]), "form"),
    "float mask": (lambda view, rows: view.visual.float(), "form"),
    "chance": (
        lambda view, rows: Survivors(rows, louder(view, rows, float(torch.rand(())))),
        "deterministic",
    ),
    "writes": (lambda view, rows: (view.hidden.add_(1), Survivors(rows))[1], "read only"),
    "mixes": (
        lambda view, rows: Survivors(rows, louder(view, rows, float(view.hidden.float().std()))),
        "isolation",
    ),
    "merges": (lambda view, rows: Survivors(rows, louder(view, rows, 2.0)), "untouched"),
}


def words(view: SequenceView) -> Tensor:
    return (~view.visual).nonzero().squeeze(-1)


def louder(view: SequenceView, rows: Tensor, factor: float) -> Tensor:
    """Hidden states whose visual rows are so many times as large."""
    factors = torch.where(view.visual[rows], factor, 1.0).unsqueeze(-1)
    return (states_of(view, rows) * factors).to(view.hidden.dtype)


@pytest.mark.parametrize("case", SURVIVORS)
def test_a_prefill_stage(case: str) -> None:
    wrong, law = SURVIVORS[case]
    assert law in broken(check_strategy, Late(wrong), models=[])


@pytest.mark.parametrize(
    "right",
    [
        lambda view, rows: Survivors(rows),
        lambda view, rows: Survivors(rows, states_of(view, rows)),
        lambda view, rows: torch.isin(torch.arange(len(view.frame)), rows),
    ],
)
def test_a_prefill_stage_that_is_right(right: Any) -> None:
    found = applied(Late(right), models=["toy"])
    assert {"layers", "text", "once", "isolation", "untouched", "events", "batches"} <= {*found}


@pytest.mark.parametrize(
    "where",
    [
        lambda depth: (2, 1),
        lambda depth: (1, 1),
        lambda depth: [1, 2],
        lambda depth: (0, 1),
        lambda depth: (1, depth),
        lambda depth: None,
        lambda depth: depth.gone,
    ],
)
def test_layers(where: Any) -> None:
    assert "layers" in broken(check_strategy, Late(where=where), models=[])


def test_an_event_that_asks_for_what_the_one_before_it_took() -> None:
    @dataclass(frozen=True)
    class Whole(Late):
        def quota(self, view: SequenceView) -> Tensor:
            share = 2 if view.layer == 1 else 1
            return torch.full_like(view.counts, view.full // view.frames // share)

    assert {"quota", "events"} <= broken(check_strategy, Whole(), models=[])


# --- decode stages and allocators


def test_decode_stages() -> None:
    seen: list[int] = []

    def forgetful(view: SequenceView, state: Any) -> Any:
        seen.append(1)
        return ~view.visual | (view.position % 2 == len(seen) % 2), state

    def grown(view: SequenceView, state: Any) -> Any:
        state.append(1)
        return ~view.visual | (view.position % 2 == len(state) % 2), state

    assert "forgets" in broken(check_strategy, Hider(forgetful), models=[])
    assert "value" in broken(check_strategy, Hider(grown, list), models=[])
    hidden = Hider(lambda view, state: (view.visual, state))
    assert "text" in broken(check_strategy, hidden, models=[])
    assert "text" in applied(Hider(lambda view, state: (~view.visual, state)))


@pytest.mark.parametrize(
    ("weigh", "law"),
    [
        (lambda probe: torch.arange(1.0, probe.frames + 1), "order of frames"),
        (lambda probe: torch.ones(probe.frames + 1), "weights"),
        (lambda probe: -torch.ones(probe.frames), "weights"),
        (lambda probe: torch.full((probe.frames,), torch.nan), "weights"),
        (lambda probe: torch.rand(probe.frames), "deterministic"),
        (
            lambda probe: probe.last_row([0]).queries[0, 0, 0].abs().expand(probe.frames) + 1,
            "order of heads",
        ),
    ],
)
def test_allocators(weigh: Any, law: str) -> None:
    assert law in broken(check_strategy, Guide(weigh), models=[])
    assert "total" in applied(Guide(lambda probe: torch.ones(probe.frames)))


# --- retention


def test_a_retention_that_is_not_reached() -> None:
    @dataclass(frozen=True)
    class Some(VisionStage, Adjustable):
        keep: float = 0.5
        short: float = 1.0

        def quota(self, tokens: VisualTokens) -> Tensor:
            return ops.count(tokens.counts, self.keep * self.short)

        def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
            return first(tokens, budget)

        def retaining(self, ratio: float, extent: Extent) -> Strategy:
            return replace(self, keep=ratio)

    assert applied(Some())["retention"] == "passed"
    assert broken(check_strategy, Some(short=0.8), models=[]) == {"retention"}


# --- tasks


class Grey(Task):
    """Videos of one grey, with something wrong in them."""

    name = "grey"
    wrong = ""

    def __init__(self, *, samples: int | None, frames: int, seed: int) -> None:
        self.samples, self.frames, self.seed = samples or 3, frames, seed
        self.calls = 0

    def __len__(self) -> int:
        return self.samples + (self.wrong == "length")

    def label(self, index: int) -> Label:
        number = 0 if self.wrong == "ids" else index
        category = "other" if self.wrong == "categories" else "grey"
        return Label(f"grey-{number}", category, "What colour is it?", "grey")

    def __getitem__(self, index: int) -> Sample:
        self.calls += self.wrong == "pure"
        level = 40 + index + self.seed % 100 + self.calls
        size = (self.frames, 4, 4, 3)
        frames = torch.full(size, level, dtype=torch.uint8)
        label = self.label(index)._asdict()
        if self.wrong == "label":
            label["answer"] = "gray"
        return Sample(**label, frames=frames.float() if self.wrong == "frames" else frames)

    def fingerprint(self) -> dict[str, Any]:
        said: dict[str, Any] = {"task": "grey", "seed": self.seed, "frames": self.frames}
        if self.wrong == "fingerprint":
            said["size"] = torch.tensor(4)
        if self.wrong == "fingerprint of others":
            del said["seed"]
        return said

    def score(self, prediction: str, sample: Sample) -> float:
        return super().score(prediction, sample) * (2 if self.wrong == "score" else 1)

    def reading(self, prediction: str, sample: Sample) -> str:
        found = super().reading(prediction, sample)
        return "perhaps" if self.wrong == "reading" else found


# a way to be wrong has the name of the law that it breaks
WORDS = ("length", "ids", "categories", "pure", "label", "frames", "fingerprint")


@pytest.mark.parametrize("law", [*WORDS, "fingerprint of others", "score", "reading"])
def test_tasks(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_task(Grey, show=False).broken == ()
    assert check_task(Grey(samples=2, frames=4, seed=0), show=False).broken == ()
    monkeypatch.setattr(Grey, "wrong", law)
    assert law in broken(check_task, Grey)


def test_a_task_that_cannot_travel() -> None:
    task = Grey(samples=2, frames=4, seed=0)
    task.reader = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    assert broken(check_task, task) == {"sent"}


# --- adapters


@pytest.fixture
def family() -> Iterator[Any]:
    """Registers another adapter for the toy's family."""
    before = FAMILIES.find("llava_onevision")

    def register(**changed: Any) -> Any:
        kind = type("Theirs", (LlavaOnevision,), changed)
        kind.model_type = "llava_onevision"
        FAMILIES.defined["llava_onevision"] = kind
        return next(models.toys(4)).model

    yield register
    FAMILIES.defined["llava_onevision"] = before


def halved(self: Any, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
    pooled = ops.pool2d(maps, "bilinear")
    return pooled.mean(1, keepdim=True).expand_as(pooled)


def mirrored(self: Any, video: Any) -> Tensor:
    pattern = LlavaOnevision.pattern(self, video)
    return np.append(pattern[-2::-1], pattern[-1:])


def blind(self: Any, ids: Tensor, given: Any, videos: Any) -> dict[str, Any]:
    """What an assistant would see of a video: the same for every row."""
    return {"inputs_embeds": self.model.get_input_embeddings()(ids)}


@pytest.mark.parametrize(
    ("changed", "law"),
    [
        ({"pool": halved}, "tower"),
        ({"pattern": mirrored}, "cells"),
        ({"depth": property(lambda self: 3)}, "parts"),
        ({"positions": "original"}, "gone"),
        (
            {"see": lambda self, ids, given, videos: {"inputs_embeds": wrong(self, ids)}},
            "assistant",
        ),
        ({"placeholder_of": classmethod(lambda cls, config: 7)}, "placeholders"),
    ],
)
def test_adapters(family: Any, changed: dict[str, Any], law: str) -> None:
    prompts = next(models.toys(4)).prompts
    model = family(**changed)
    assert law in broken(check_adapter, model, prompts=prompts, strategies=())
