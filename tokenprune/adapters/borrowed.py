"""A model that takes what another one's tower has made of a video, where the two towers are equal.

Nothing of either model is changed: stock code runs on a stand-in for its body, whose tower answers
at once.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# what a configuration says about where a model came from, and not about what it computes
_ORIGIN = ("architectures", "dtype", "torch_dtype", "transformers_version")


def equal_towers(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether two towers make the same of the same pixels: class, configuration, every weight.

    Weights are read once, up to the first that differs; those of one tensor not at all.
    """
    if type(one) is not type(other) or _computes(one) != _computes(other):
        return False
    own, others = one.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(_same(own[name], others[name]) for name in own)


def _computes(tower: PreTrainedModel) -> dict[str, Any]:
    said = tower.config.to_dict()
    return {
        name: value
        for name, value in said.items()
        if not name.startswith("_") and name not in _ORIGIN
    }


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.is_meta or other.is_meta:
        return False
    # tensors that stand for others, as quantised ones do, have no memory of their own
    if 0 != one.data_ptr() == other.data_ptr() and one.stride() == other.stride():
        return True
    return torch.equal(one, other.to(one.device))


def lendable(output: Any, layers: Any) -> Any:
    """What another model's code reads of a tower's output: its last states, and those of `layers`.

    `layers` are a configuration's `vision_feature_layer`; the states of all others would be held
    for nothing.
    """
    chosen = [layers] if isinstance(layers, int) else (layers or [])
    held = {name: part for name, part in output.items() if name != "attentions"}
    if (states := held.get("hidden_states")) is not None:
        wanted = {layer % len(states) for layer in chosen}
        held["hidden_states"] = tuple(
            state.detach() if place in wanted else None for place, state in enumerate(states)
        )
    return type(output)(
        **{name: part.detach() if isinstance(part, Tensor) else part for name, part in held.items()}
    )


class Lent:
    """A tower that need not run: it answers with the output that an equal one has returned.

    Called with anything else than as many frames or patches as that shows, it runs itself.
    """

    def __init__(self, tower: PreTrainedModel, output: Any) -> None:
        self.tower, self.used = tower, False
        self._output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tower, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pixels = next(part for part in (*args, *kwargs.values()) if isinstance(part, Tensor))
        if len(pixels) != len(self._output.last_hidden_state):
            return self.tower(*args, **kwargs)
        self.used = True
        return _moved(self._output, pixels.device)


def borrowing(body: nn.Module, lent: Lent) -> nn.Module:
    """A stand-in for the body of a model, whose methods find `lent` where its tower is.

    It shares everything else with the body, which stays as it is.
    """
    other = copy(body)
    parts = body._modules.items()
    vars(other)["_modules"] = {name: lent if part is lent.tower else part for name, part in parts}
    return other


def _moved(output: Any, device: torch.device) -> Any:
    """A copy: stock code writes into what a tower returns."""

    def there(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to(device)
        return tuple(map(there, part)) if isinstance(part, tuple | list) else part

    return type(output)(**{name: there(part) for name, part in output.items()})
