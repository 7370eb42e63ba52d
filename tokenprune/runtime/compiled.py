"""What of a session is inside a compiled decoding step: nothing but what lies in the cache.

transformers compiles the step of a static cache as a whole, so hooks are traced into its graph.
There they must not look at a session, which belongs to threads and changes from pass to pass: what
a step needs of the prompt are tensors of the cache's own layers (`fixed_cache`), and of Python
nothing is left when the graph runs.

What is here has no checked annotations, which compiled code cannot have.

Axes: `b` samples, `h` heads or 1, `q` columns of the step, `l` slots of a layer, `p` position axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from torch import Tensor

from tokenprune import compat
from tokenprune.runtime.fixed_cache import FixedLayer

HELD = "tokenprune_held"  # the argument by which layers get what a decode stage holds
Arguments = tuple[Any, dict[str, Any]]  # of a module, as they were given
Rotation = Callable[[int, Tensor, Tensor], tuple[Tensor, ...]]  # layer, hidden states, positions


@no_type_check
def entering(module: Any, args: Any, kwargs: dict[str, Any]) -> Arguments | None:
    """Arguments of the language model with mask and positions for the rows that are left."""
    cache = _cache(kwargs)
    if cache is None or not isinstance(first := cache.layers[0], FixedLayer):
        return None
    # a graph does not know whose hooks it was made with: it is for these layers, and no others
    _ = [own.above for own in cache.layers]
    changed: dict[str, Any] = {}
    if first.real is not None:
        changed["attention_mask"] = _seen(kwargs["attention_mask"], first)
    if (held := _held(cache)) is not None:
        changed[HELD] = held
    if first.shift is not None:
        positions = kwargs.get("position_ids")
        if positions is None:
            columns = torch.arange(kwargs["inputs_embeds"].shape[1], device=first.shift.device)
            positions = (columns + first.get_seq_length()).unsqueeze(0)
        changed["position_ids"] = positions - first.shift
    return args, {**kwargs, **changed}


@no_type_check
def layer(
    number: int, rotation: Rotation, module: Any, args: Any, kwargs: dict[str, Any]
) -> Arguments | None:
    """Arguments of a decoder layer above which a prefill stage has dropped rows."""
    cache = _cache(kwargs)
    if cache is None or not isinstance(own := cache.layers[number], FixedLayer) or not own.above:
        return None
    if (held := kwargs.get(HELD)) is not None and held.layer == number:
        held.choose()
    changed: dict[str, Any] = {"attention_mask": _seen(kwargs["attention_mask"], own)}
    if own.shift is not None:  # counted anew inside the model
        positions = kwargs["position_ids"] - own.shift
        hidden = args[0] if args else kwargs["hidden_states"]
        changed["position_ids"] = positions
        changed["position_embeddings"] = rotation(number, hidden, positions)
    return args, {**kwargs, **changed}


@no_type_check
def attending(module: Any, query: Any, key: Any, mask: Any, kwargs: dict[str, Any]) -> None:
    """In the layer below a decode stage's its attention is taken down."""
    held = kwargs.pop(HELD, None)
    if held is not None and module.layer_idx == held.layer - 1:
        held.note(query, key, kwargs["scaling"], mask)


@no_type_check
def _held(cache: Any) -> Any:
    """What a decode stage holds of the prompt in a cache, the same in all of its layers."""
    return None if cache is None else getattr(cache.layers[-1], "held", None)


@no_type_check
def _cache(kwargs: dict[str, Any]) -> Any:
    return next((kwargs[name] for name in compat.CACHE if kwargs.get(name) is not None), None)


@no_type_check
def _seen(mask: Any, own: FixedLayer) -> Any:
    """The mask of a layer, of that of a layer below with more slots in front."""
    if isinstance(mask, dict):  # by kind of layer
        return {kind: _seen(one, own) for kind, one in mask.items()}
    mask = mask[..., -own.slots :]
    if own.real is None:
        return mask
    real = own.real[:, None, None]
    if mask.dtype == torch.bool:
        return mask & real
    return mask.masked_fill(~real, torch.finfo(mask.dtype).min)
