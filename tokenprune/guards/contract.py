"""What a strategy returns is held to the contract, in every run.

An error names the file, the class and the rule; `vision`, `masks` and `tower` have the rules of
stages. All that a rule has to read from the device is read at once, one wait per stage; what only
the device knows of a built-in vision stage's tokens, or a prefill stage's mask, goes to `promises`,
for which nobody waits. Only a third party's strategy is also watched for what it does to its input
and to itself: for the built-in ones the laws in the tests have shown it.
`docs/design/2026-11-27-contract-checks.md` has the reasons and what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.errors import StrategyError
from tokenprune.guards import blame
from tokenprune.guards.watch import watched
from tokenprune.tokens import SequenceView, Signals, VisualTokens

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_QUOTA = (
    "a quota is one whole number per frame, an integer tensor on its input's device "
    "(ops.count makes one)"
)
BUDGET = "a stage keeps exactly its budget"
_WEIGHTS = "an allocator returns one weight per frame, finite, not negative and not all zero"
_KEPT = "from 0 to all of them"
_LAYERS = "layers are a tuple of ascending whole numbers, each once"

Counts = tuple[list[int], list[int], list[int]]  # per frame: before a stage, its budget, after it


def breach(strategy: Any, method: str, did: str, rule: str) -> StrategyError:
    """The error of a strategy whose `method` did what the contract does not allow."""
    kind = type(strategy)
    return StrategyError(
        f"{blame.home(kind, method)}: {kind.__name__}.{method} {did}: {rule} "
        "(docs/write-a-strategy.md)"
    )


def ask(strategy: Any, method: str, *arguments: Any, sample: int | None = None) -> Any:
    """The result of a strategy's method, which leaves its input and the strategy as they are."""
    kind, action = type(strategy), getattr(strategy, method)
    if not blame.foreign(kind):
        return action(*arguments)
    with watched(strategy, method, arguments) as harm:
        result = blame.call(kind, method, action, *arguments, sample=sample)
    if harm:
        raise breach(strategy, method, *harm[0])
    return result


def layers(stage: Any, depth: int | None) -> tuple[int, ...]:
    """The LLM layers before which a prefill stage acts; with unknown depth those of its field."""
    if depth is None:
        return (stage.layer,) if hasattr(stage, "layer") else ()
    asked = ask(stage, "layers", depth)
    whole = isinstance(asked, tuple) and all(type(layer) is int for layer in asked)
    if not whole or sorted({*asked}) != [*asked]:
        raise breach(stage, "layers", f"returned {asked!r}", _LAYERS)
    return asked


def signals(reader: Any) -> Signals:
    """What a `TowerReader` wants recorded."""
    wanted = ask(reader, "signals")
    for name, hint in get_type_hints(Signals).items():
        literals = get_args(hint)  # Literal[...] | None
        known = [word for literal in literals for word in get_args(literal)]
        said = getattr(wanted, name) if isinstance(wanted, Signals) else wanted
        if not isinstance(wanted, Signals) or said not in (*known, None):
            rule = f"Signals({name}=...) is one of {known}, or None"
            raise breach(reader, "signals", f"returned {said!r}", rule)
    return wanted


def agreed_signals(readers: Sequence[Any]) -> Signals:
    """What several `TowerReader`s want recorded together; StrategyError where they differ."""
    wanted = {reader.name: signals(reader) for reader in readers}
    agreed: dict[str, Any] = {}
    for kind in Signals._fields:
        sources = {name: getattr(asked, kind) for name, asked in wanted.items()}
        sources = {name: source for name, source in sources.items() if source is not None}
        different = sorted(set(sources.values()))
        if len(different) > 1:
            raise StrategyError(
                f"{' and '.join(sources)} read different {kind} ({', '.join(different)}): "
                "keep one of them"
            )
        agreed[kind] = different[0] if different else None
    return Signals(**agreed)


def quota(
    stage: Any, seen: VisualTokens | SequenceView, sample: int | None = None
) -> Int[Tensor, "f"]:
    """How many tokens of each frame a stage would keep: from none to all there are."""
    asked, device = ask(stage, "quota", seen, sample=sample), seen.frame.device
    did = f"returned {described(asked)}"
    if not isinstance(asked, Tensor) or asked.dtype not in INTEGERS:
        raise breach(stage, "quota", did, _QUOTA)
    if asked.shape != (seen.frames,) or asked.device != device:
        raise breach(stage, "quota", f"{did} for {seen.frames} frames", _QUOTA)
    asked = asked.long()
    if not blame.foreign(type(stage)) and hosted.settled(asked):
        return asked  # the laws in the tests have shown the rest
    wanted, there = torch.stack([asked, seen.available]).tolist()
    hosted.note(asked, wanted)
    if any(not 0 <= number <= most for number, most in zip(wanted, there, strict=True)):
        did = f"asks for {wanted} tokens per frame, there are {there}"
        raise breach(stage, "quota", did, _KEPT)
    return asked


def weights(allocator: Any, frames: int, given: Any) -> Float[Tensor, "f"]:
    """An allocator's weights, in float32."""
    did = f"returned {described(given)}"
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_complex():
        raise breach(allocator, "weigh", did, _WEIGHTS)
    if given.shape != (frames,):
        raise breach(allocator, "weigh", f"{did} for {frames} frames", _WEIGHTS)
    values = given.tolist()
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        short = [float(f"{value:.4g}") for value in values]
        raise breach(allocator, "weigh", f"returned {short}", _WEIGHTS)
    return hosted.note(
        given.float(), given.float().tolist() if given.dtype != torch.float32 else values
    )


def read_at_once(
    flags: Bool[Tensor, "k"], counts: list[Int[Tensor, "f"]], frames: int
) -> tuple[list[int], Counts]:
    """All of it as numbers, in one read from the device."""
    read = torch.cat([flags.long(), *(part.to(flags.device) for part in counts)]).tolist()
    ends = [len(read) - frames * left for left in (3, 2, 1)]
    before, budget, after = (read[end : end + frames] for end in ends)
    return read[: ends[0]], (before, budget, after)


def exact(stage: Any, method: str, counts: Counts) -> Counts:
    """The counts of a stage that kept its budget."""
    _, budget, after = counts
    if after != budget:
        did = f"kept {after} tokens per frame where its budget was {budget}"
        raise breach(stage, method, did, BUDGET)
    return counts


def described(value: Any) -> str:
    """A value in a message: a tensor by dtype and shape, anything else by its type."""
    if not isinstance(value, Tensor):
        return "None" if value is None else type(value).__name__
    device = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}{device}"
