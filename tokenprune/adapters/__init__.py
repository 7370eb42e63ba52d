"""One file per family of video LLMs; `adapt(model)` picks the one that fits an instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn
from transformers import PreTrainedModel

from tokenprune.adapters.base import VideoLLM
from tokenprune.errors import UnsupportedModelError
from tokenprune.lookup import FAMILIES

__all__ = ["UnsupportedModelError", "VideoLLM", "adapt", "families"]

LOAD = "load one with AutoModelForImageTextToText.from_pretrained(NAME)"


def families() -> Mapping[str, type[VideoLLM]]:
    """Supported families by `config.model_type`, each imported when it is asked for.

    They are the files of this folder, those of installed packages (entry points of the group
    `tokenprune.families`), and those that a plug-in defines.
    """
    return FAMILIES


def adapt(model: Any) -> VideoLLM:
    """The adapter of an instance in memory, which has to be the stock model itself and not
    something around it.

    Raises UnsupportedModelError that names what to pass instead, or the supported families.
    """
    if not isinstance(model, PreTrainedModel):
        _refuse(model)
    kind = model.config.model_type
    if kind not in families():
        if (path := _inside(model)) is not None:
            _unwrap(model, path)
        FAMILIES.refuse_broken(kind)
        raise UnsupportedModelError(
            f"{type(model).__name__} ({kind}) is not of a family that tokenprune knows: "
            f"supported families are {', '.join(sorted(families()))}"
        )
    adapter = families()[kind](model)
    try:
        adapter.modules()
    except AttributeError as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} is not built as transformers builds it ({error}): pass the "
            "stock model, "
            "whose parts are neither replaced nor wrapped"
        ) from error
    return adapter


def _refuse(given: Any) -> NoReturn:
    """Says what to pass in place of something that is not a model of transformers."""
    name = type(given).__name__
    if isinstance(given, nn.Module):
        if (path := _inside(given)) is not None:
            _unwrap(given, path)
        raise UnsupportedModelError(
            f"{name} is not a model of transformers: supported families are "
            f"{', '.join(sorted(families()))}"
        )
    inner = getattr(given, "model", None)  # a pipeline, a Trainer, an inference wrapper
    if isinstance(inner, nn.Module) and _fits(inner):
        raise UnsupportedModelError(
            f"{name} is not the model but holds it: pass what is inside (.model)"
        )
    said = f"an object of type {name}"
    if given is None or isinstance(given, str):
        said = "None" if given is None else f"the text {given!r}"
    elif isinstance(given, type):
        said = f"the class {given.__name__}"
    raise UnsupportedModelError(f"expected a loaded model, not {said}: {LOAD}")


def _unwrap(wrapper: nn.Module, path: str) -> NoReturn:
    name, first = type(wrapper).__name__, path.partition(".")[0]
    # replicas on other devices and code compiled before have none of a session's hooks
    bypasses = isinstance(wrapper, nn.DataParallel) or first == "_orig_mod"
    call = ", and call that inside the block" if bypasses else ""
    raise UnsupportedModelError(f"{name} wraps the model: pass what is inside (.{path}){call}")


def _inside(wrapper: nn.Module) -> str | None:
    """Where in `wrapper` the outermost whole model is; None where there is none."""
    found = (path for path, module in wrapper.named_modules() if path and _fits(module))
    return next(found, None)


def _fits(module: nn.Module) -> bool:
    if not isinstance(module, PreTrainedModel) or module.config.model_type not in families():
        return False
    try:
        families()[module.config.model_type](module)
    except UnsupportedModelError:
        return False
    return True
