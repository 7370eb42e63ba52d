"""The laws of vision stages and condensers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.errors import TokenpruneError
from tokenprune.strategy import Condenser, TowerReader, VisionStage
from tokenprune.testing.cases import OfTokens, alone
from tokenprune.testing.equal import copied, same, shown
from tokenprune.testing.inputs import disturbed
from tokenprune.testing.law import applies, holds, law
from tokenprune.testing.results import (
    by_address,
    check_addresses,
    check_form,
    check_members,
    check_untouched,
)
from tokenprune.tokens import Signals, VisualTokens

MIXES = "its frames decide about each other (mixes_frames)"
MERGES = "its rows stand for several tokens (merges)"


def wanted(strategy: Any) -> Signals:
    """What it asks to have recorded."""
    return strategy.signals() if isinstance(strategy, TowerReader) else Signals()


def asked(strategy: VisionStage, case: OfTokens) -> list[Int[Tensor, "f"]]:
    """The budgets that it has to keep: its own, and where an allocator may host, any and all."""
    own = strategy.quota(case.tokens)
    return [own, case.budget, case.tokens.available] if strategy.reallocates else [own]


def outcomes(strategy: Any, case: OfTokens) -> Iterator[tuple[VisualTokens, Tensor | None]]:
    """What it makes of the case, by the budget that it was given; a condenser is given none."""
    if isinstance(strategy, VisionStage):
        for budget in asked(strategy, case):
            yield strategy.compress(case.tokens, budget), budget
    if isinstance(strategy, Condenser):
        yield strategy.condense(case.tokens), None


@law("a quota is one whole number per frame, from none to all of its tokens")
def quota(strategy: Any, case: OfTokens) -> None:
    check_quota(strategy.quota(case.tokens), case.tokens)


def check_quota(found: Any, seen: Any) -> None:
    """Of a stage that keeps a budget, whatever it sees."""
    holds(isinstance(found, Tensor), f"quota returned {type(found).__name__}, not a tensor")
    holds(found.dtype == torch.int64, f"quota returned {found.dtype}: ops.count makes int64")
    holds(found.device == seen.frame.device, "quota returned a tensor on another device")
    holds(
        found.shape == (seen.frames,),
        f"quota returned {[*found.shape]} numbers for {seen.frames} frames",
    )
    inside = (found >= 0).all() and (found <= seen.available).all()
    holds(inside, f"quota asks for {shown(found)} where there are {shown(seen.available)}")


@law("exactly the budget of every frame is kept: its own, and any that an allocator gives")
def budget(strategy: Any, case: OfTokens) -> None:
    for kept, given in outcomes(strategy, case):
        assert given is not None
        holds(
            torch.equal(kept.counts, given), f"kept {shown(kept.counts)} of a budget {shown(given)}"
        )


@law("at most the tokens that came are left")
def number(strategy: Any, case: OfTokens) -> None:
    for kept, _ in outcomes(strategy, case):
        there = case.tokens.counts
        holds((kept.counts <= there).all(), f"made {shown(kept.counts)} of {shown(there)} tokens")


@law("width, dtype, device and sizes stay, and features are finite")
def form(strategy: Any, case: OfTokens) -> None:
    for kept, _ in outcomes(strategy, case):
        check_form(kept, case.tokens)


@law("frames stay in order; every slot is one of the input's, at most once")
def addresses(strategy: Any, case: OfTokens) -> None:
    for kept, _ in outcomes(strategy, case):
        check_addresses(kept, case.tokens)


@law("the same input gives the same result, whatever came in between")
def deterministic(strategy: Any, case: OfTokens) -> None:
    first = [kept for kept, _ in outcomes(strategy, case)]
    if case.between is not None:
        empty = torch.zeros_like(case.between.counts)
        with suppress(TokenpruneError):  # what it refuses is not this law's matter
            list(outcomes(strategy, OfTokens(case.between, empty)))
    again = [kept for kept, _ in outcomes(strategy, case)]
    holds(all(map(same, first, again)), "the same input gave another result")


@law("the input is read only")
def read_only(strategy: Any, case: OfTokens) -> None:
    before = copied(case.tokens)
    list(outcomes(strategy, case))
    holds(same(case.tokens, before), "wrote into its input: clone() what you change")


@law("a full budget changes nothing")
def identity(strategy: Any, case: OfTokens) -> None:
    tokens = case.tokens
    own, full = strategy.quota(tokens), tokens.counts
    applies(torch.equal(tokens.available, full), "no budget is full: it chooses among patches")
    applies(strategy.reallocates or torch.equal(own, full), "it only takes budgets of its own")
    adaptive = strategy.merges if case.adaptive is None else case.adaptive
    # an adaptive rule that arrives at all tokens of a frame may merge them
    whole = (own < full) | (not adaptive)
    kept = by_address(strategy.compress(tokens, full)), by_address(tokens)
    holds(
        torch.equal(*(rows[whole[tokens.frame]] for rows in kept)), "a full budget changed tokens"
    )


@law("what a frame keeps does not depend on other frames")
def isolation(strategy: Any, case: OfTokens) -> None:
    sources = case.sources
    applies(sources is not None or not strategy.mixes_frames, MIXES)
    sources = sources or alone
    tokens, frame = case.tokens, case.disturbed
    others = disturbed(tokens, frame)
    rest = [f for f in range(tokens.frames) if f != frame and frame not in sources(f)]
    if isinstance(strategy, VisionStage):
        one, two = strategy.quota(tokens), strategy.quota(others)
        holds(torch.equal(one[rest], two[rest]), "frames mix in the quota")
    for method, given in _ways(strategy, case):
        one, two = method(tokens, *given), method(others, *given)
        kept = torch.isin(one.frame, torch.tensor(rest, dtype=torch.long, device=one.frame.device))
        there = torch.isin(two.frame, torch.tensor(rest, dtype=torch.long, device=two.frame.device))
        holds(
            same(_frames(one, kept), _frames(two, there)),
            f"other contents of frame {frame} changed what other frames keep: say "
            "mixes_frames: ClassVar[bool] = True if they should",
        )


def _ways(strategy: Any, case: OfTokens) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    if isinstance(strategy, VisionStage):
        given = case.budget if strategy.reallocates else strategy.quota(case.tokens)
        yield strategy.compress, (given,)
    if isinstance(strategy, Condenser):
        yield strategy.condense, ()


def _frames(tokens: VisualTokens, rows: Tensor) -> tuple[Any, ...]:
    """What is kept of some frames."""
    parts = (tokens.features, tokens.keys, tokens.saliency, tokens.frame, tokens.slot)
    return tuple(None if part is None else part[rows] for part in parts)


@law("a stage that does not merge returns rows of its input, bit for bit")
def untouched(strategy: Any, case: OfTokens) -> None:
    applies(not strategy.merges, MERGES)
    for kept, _ in outcomes(strategy, case):
        check_untouched(kept, case.tokens)


@law("members say into which row each token went, and add up")
def members(strategy: Any, case: OfTokens) -> None:
    recorded = [kept for kept, _ in outcomes(strategy, case) if kept.members is not None]
    applies(recorded, "records no members")
    for kept in recorded:
        check_members(kept, case.tokens)


BOTH = (form, addresses, deterministic, read_only, isolation, untouched, members)
VISION = (quota, budget, identity, *BOTH)
CONDENSE = (number, *BOTH)
