"""What cannot be composed, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenprune.errors import StrategyError
from tokenprune.guards import contract
from tokenprune.lookup import STRATEGIES
from tokenprune.strategy.stages import (
    HOSTS,
    Allocator,
    Condenser,
    DecodeStage,
    PrefillStage,
    Strategy,
    TowerStage,
)

if TYPE_CHECKING:
    from tokenprune.strategy.pipeline import Pipeline


def check(pipeline: Pipeline, depth: int | None) -> None:
    """Raises StrategyError for what cannot work; `depth` LLM layers also check layers."""
    names = [strategy.name for strategy in pipeline.strategies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StrategyError(f"{twice[0]!r} is named twice in {pipeline}: name each strategy once")
    if len(hiding := pipeline.of(DecodeStage)) > 1:
        which = named(hiding)
        raise StrategyError(f"{which} both hide cached rows at decode: keep one of them")
    if len(inside := pipeline.of(TowerStage)) > 1:
        raise StrategyError(f"{named(inside)} both work inside the tower: keep one of them")
    if pipeline.signals.grid is not None and len(pipeline.at_input) > 1:
        raise StrategyError(
            f"{pipeline} has a stage before the projector, which leaves no grid of tokens to the "
            "other at the LLM's input: keep one of them"
        )
    check_allocator(pipeline)
    for stage in pipeline.of(PrefillStage):
        for layer in contract.layers(stage, depth):
            _check_layer(stage, layer, depth)
    for stage in pipeline.of(DecodeStage):
        _check_layer(stage, stage.layer, depth)


def check_allocator(pipeline: Pipeline) -> None:
    allocators = pipeline.of(Allocator)
    if len(allocators) > 1:
        raise StrategyError(f"{named(allocators)} both allocate the budget: keep one of them")
    if not allocators:
        return
    guide, budgets = allocators[0].name, pipeline.hosts
    if len(budgets) == 1:
        _check_host(budgets[0], guide)
        return
    if budgets:
        hosting = [host.name for host in budgets if movable(host)]
        instead = [f"{name}+{guide}" for name in hosting] or [host.name for host in budgets]
        raise StrategyError(
            f"{guide} redistributes one budget, but {named(budgets, ', ')} each have one: "
            f"write {' or '.join(instead)}"
        )
    hosts = sorted(name for name, kind in STRATEGIES.items() if movable(kind))
    raise StrategyError(
        f"{guide} only redistributes another strategy's budget: write one of "
        f"{', '.join(f'{host}+{guide}' for host in hosts)}"
    )


def named(strategies: Sequence[Strategy], separator: str = " and ") -> str:
    return separator.join(strategy.name for strategy in strategies)


def movable(host: Strategy | type[Strategy]) -> bool:
    """Whether an allocator may hand a strategy another budget than its own."""
    kind = host if isinstance(host, type) else type(host)
    return issubclass(kind, HOSTS) and not issubclass(kind, Condenser) and kind.reallocates


def _check_host(host: Strategy, guide: str) -> None:
    """StrategyError where `guide` has nothing to redistribute."""
    if isinstance(host, Condenser):
        raise StrategyError(
            f"{host.name} keeps as many tokens of a frame as the content gives, so {guide} has no "
            f"budget to redistribute: write {host.name} alone"
        )
    if not movable(host):
        raise StrategyError(
            f"{host.name} decides by its own rule how many tokens of a frame live, so {guide} "
            f"cannot move them: write {host.name} alone"
        )


def _check_layer(stage: PrefillStage | DecodeStage[Any], layer: int, depth: int | None) -> None:
    if layer < 1 or (depth is not None and layer >= depth):
        last = "the last LLM layer" if depth is None else depth - 1
        own = layer == getattr(stage, "layer", None)
        which = f"{stage.name}.layer={layer}" if own else f"{stage.name} before LLM layer {layer}"
        write = "write a layer" if own else "choose options that keep it within layers"
        raise StrategyError(
            f"{which} prunes nothing: it reads the attention of the layer below, {write} from 1 "
            f"to {last}"
        )
