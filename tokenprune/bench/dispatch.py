"""Operations that are dispatched, and waits for what a device holds, counted by who causes them.

On an accelerator an operation is a launch and a host read is a wait for all launches before it; on
a CPU both can be counted as they are, on tensors of any size. A GPU reports its waits itself
(`torch.cuda.set_sync_debug_mode`).
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Owner = Literal["model", "guide", "ours"]

# operations whose result, or its size, is not known before their input has been read
READING = frozenset(
    [
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "is_nonzero",
        "bincount",
        "_unique",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "unique_dim_consecutive",
    ]
)
INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"])
# of a tensor: dispatched on an accelerator only
LEAVING = frozenset(["tolist", "numpy", "cpu", "__array__"])
_TORCH = Path(torch.__file__).parent.as_posix() + "/"
_MODELS = Path(transformers.__file__).parent.as_posix() + "/"
_PACKAGE = Path(__file__).parent.parent.as_posix() + "/"
_GUIDE = _PACKAGE + "runtime/guide.py"
_OTHERS = ("/jaxtyping/", "/beartype/", "/typeguard/", "<")


class Cause(NamedTuple):
    """An operation, and the line that asked for it: that of the model, or of ours."""

    owner: Owner
    where: str
    name: str


class Dispatched:
    """What was counted within a `with` block.

    Every dispatched operation counts as one, views included. A host read is any of: a number of a
    tensor (`item`, `int`, `bool`), `nonzero` and what needs it (indexing with a mask,
    `masked_select`, `unique`, `repeat_interleave` without its size), `bincount` and `equal`, which
    read on an accelerator, `tolist`, `numpy`, `cpu` and `to("cpu")`. Whether a tensor is already on
    the host does not matter here: where everything is on the host nobody can tell.

    An operation is the model's where the nearest line outside torch is one of transformers, the
    guide's where that line runs for a probe, else ours.
    """

    def __init__(self) -> None:
        self.operations: Counter[Cause] = Counter()
        self.reads: Counter[Cause] = Counter()
        self._modes = _Operations(self), _Calls(self)

    def __enter__(self) -> Dispatched:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*raised)

    def number(self, what: Literal["operations", "reads"], *owners: Owner) -> int:
        """How many `owners` caused; without any, all."""
        counted: Counter[Cause] = getattr(self, what)
        return sum(many for cause, many in counted.items() if not owners or cause.owner in owners)


class _Operations(TorchDispatchMode):
    """Counts what reaches the dispatcher."""

    def __init__(self, into: Dispatched) -> None:
        super().__init__()
        self._into = into

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        cause = _cause(name)
        self._into.operations[cause] += 1
        if _reads(name, args, kwargs or {}):
            self._into.reads[cause] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Counts calls that copy to the host, which on a CPU dispatch nothing."""

    def __init__(self, into: Dispatched) -> None:
        super().__init__()
        self._into = into

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in LEAVING or (name == "to" and "cpu" in (*args[1:], (kwargs or {}).get("device"))):
            self._into.reads[_cause(name)] += 1
        return func(*args, **(kwargs or {}))


def _reads(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation reads values before it can go on."""
    if name in READING:
        return True
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in INDEXING:
        masks = (torch.bool, torch.uint8)
        return any(isinstance(one, Tensor) and one.dtype in masks for one in args[1])
    return False


def _cause(name: str) -> Cause:
    """Who asks for it: the nearest line of a model, or of whatever else is not torch."""
    owner: Owner | None = None
    where, frame = "", sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if owner is None and not file.startswith(_TORCH) and not _between(file):
            owner = "model" if file.startswith(_MODELS) else "ours"
            where = f"{file.removeprefix(_PACKAGE).removeprefix(_MODELS)}:{frame.f_lineno}"
        if owner == "model" and file == _GUIDE:
            owner = "guide"
        if owner in ("ours", "guide"):
            break
        frame = frame.f_back
    return Cause(owner or "ours", where, name)


def _between(file: str) -> bool:
    """Whether it is code that only passes calls on."""
    return file == __file__ or file.endswith("/contextlib.py") or any(s in file for s in _OTHERS)
