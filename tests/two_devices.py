"""Two devices that any machine has: tensors that compute on the CPU and say they are elsewhere.

They meet only on one device, as on real ones, and `.to` moves them. Modules move what they are
given as accelerate's hooks do.
"""

from __future__ import annotations

from functools import partial, update_wrapper
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HOST, FIRST, SECOND = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)


class Placed(Tensor):
    """A tensor of the host that Python sees on another device; C++ knows nothing of it."""

    plain: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, plain: Tensor, place: torch.device) -> Placed:
        made = torch.Tensor._make_wrapper_subclass(
            cls, plain.size(), strides=plain.stride(), dtype=plain.dtype, device=HOST
        )
        made.plain, made.place = plain, place
        return made

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.place

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{self.plain!r} on {self.place}"


class _Asked(TorchFunctionMode):
    """What Python asks for on a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.functional":
            return _run(func, args, kwargs)  # as a whole: no mode sees what Python it consists of
        if func is Tensor.cpu:
            return _moved(args[0], HOST)
        if func is Tensor.tolist:
            return _bare(args[0]).tolist()
        moves = func is Tensor.to and len(args) > 1 and isinstance(args[1], torch.device | str)
        asked = args[1] if moves else kwargs.get("device")
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
            moves, asked = True, args[1].device
            kwargs["dtype"] = args[1].dtype
        if asked is None:
            return func(*args, **kwargs)
        kwargs.pop("device", None)
        if func is torch.tensor:  # of numbers, some of them tensors
            args = tree_map(_bare, args)
        if func is not Tensor.to:
            return _moved(func(*args, **kwargs), torch.device(asked))
        value, *rest = [args[0], *args[2:]] if moves else args
        changed = value.to(*rest, **kwargs) if rest or kwargs else value
        return _moved(changed, torch.device(asked))


class Devices(TorchDispatchMode):
    """Within it tensors can be on either device."""

    def __enter__(self) -> Any:
        self._asked = _Asked()
        self._asked.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._asked.__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the host; RuntimeError where its tensors are on different devices."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    # numbers of the host may meet anything, and so may its indices
    places = {one.device for one in tensors if one.dim() or isinstance(one, Placed)}
    if "index" in str(func) and tensors[0].device != HOST:
        places -= {HOST}
    if len(places) > 1 and func is not torch.ops.aten.copy_.default:
        raise RuntimeError(f"{func} is given tensors on {sorted(map(str, places))}")
    place = tensors[0].device if len(places) > 1 else next(iter(places), HOST)
    known = {id(one.plain): one for one in tensors if isinstance(one, Placed)}

    def dressed(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, Placed):
            return value
        return known[id(value)] if id(value) in known else _moved(value, place)

    return tree_map(dressed, func(*tree_map(_bare, args), **tree_map(_bare, kwargs)))


def _bare(value: Any) -> Any:
    return value.plain if isinstance(value, Placed) else value


def _moved(value: Tensor, place: torch.device) -> Tensor:
    """The tensor on another device, where it is not there already."""
    if value.device == place:
        return value
    return _bare(value) if place == HOST else Placed(_bare(value), place)


def put(module: nn.Module, place: torch.device) -> None:
    """Weights and buffers of a module; what it is called with is brought to it."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = _moved(tensor.detach(), place)  # pyright: ignore
    bring(module, place)


def bring(module: Any, place: torch.device) -> None:
    """As accelerate's hooks bring arguments: the module's `forward` is replaced."""
    module._hf_hook = SimpleNamespace(execution_device=place)
    module._old_forward = module.forward
    module.forward = update_wrapper(partial(_brought, module, place), module.forward)


def _brought(module: Any, place: torch.device, *args: Any, **kwargs: Any) -> Any:
    def moved(value: Any) -> Any:
        return _moved(value, place) if isinstance(value, Tensor) else value

    return module._old_forward(*tree_map(moved, args), **tree_map(moved, kwargs))


def spread(model: Any, first: int) -> Any:
    """The model with its LLM layers from `first` up, and all behind them, on the second device."""
    body, text = model.model, model.model.language_model
    behind = [*text.layers[first:], text.norm, model.lm_head]
    before = [part for part in body.children() if part is not text]
    before += [*text.layers[:first]]
    before += [part for part in text.children() if part not in (text.layers, text.norm)]
    for module in behind:
        put(module, SECOND)
    for module in before:
        put(module, FIRST)
    for name, tensor in body._parameters.items():  # a newline
        body._parameters[name] = _moved(tensor.detach(), FIRST)
    bring(model, FIRST)
    return model
