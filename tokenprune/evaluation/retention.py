"""`keep=`: one number instead of a strategy's own options, and what contradicts it."""

from __future__ import annotations

from collections.abc import Iterable

from tokenprune.errors import ConfigError, StrategyError
from tokenprune.strategy import Adjustable, Extent, Pipeline


def retaining(pipeline: Pipeline, keep: float, extent: Extent, options: Iterable[str]) -> Pipeline:
    """`pipeline` with its one budget set to `keep`, a fraction of visual tokens, mean over LLM
    layers.

    ConfigError where it has none, several, or cannot reach it, and for one of `options` that `keep`
    sets.
    """
    hosts = pipeline.hosts
    if len(hosts) != 1 or not isinstance(hosts[0], Adjustable):
        which = " and ".join(host.name for host in hosts) or "no budget"
        raise ConfigError(
            f"keep= sets the budget of one strategy, and {pipeline} has {which}: leave keep= out"
        )
    try:
        found = pipeline.retaining(keep, extent)
    except StrategyError as error:
        raise ConfigError(f"keep={keep:g}: {error}") from None
    refuse_overridden(pipeline, found, options)
    return found


def refuse_overridden(
    before: Pipeline, after: Pipeline, options: Iterable[str], whose: str = ""
) -> None:
    """ConfigError for an option, such as `dycoke.merge`, whose value the budget has changed."""
    fields = {strategy.name: strategy for strategy in before.strategies}
    for strategy in after.strategies:
        for key in options:
            owner, _, name = key.partition(".")
            if owner == strategy.name and getattr(strategy, name) != getattr(fields[owner], name):
                raise ConfigError(f"keep= sets {key}{whose}: leave {key}= out")
