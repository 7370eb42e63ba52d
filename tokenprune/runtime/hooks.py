"""What a session hangs on a model: callables that cannot be copied or pickled.

Neither can the model, as long as it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, no_type_check

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.runtime.prompt_state import PromptState

NAME: Any = "tokenprune"  # of the hooks on a module, which gets one of each kind


class Hook:
    """A function that belongs to one session: a copy of the model would go on calling it.

    Where torch makes a graph of the model, `inside` is called instead, which must not look at a
    session: a graph is made once and outlives it. Nothing of ours is in a graph without.
    """

    def __init__(
        self, function: Callable[..., Any], inside: Callable[..., Any] | None = None
    ) -> None:
        self._function, self._inside = function, inside

    @no_type_check  # checked annotations cannot be compiled
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return None if self._inside is None else self._inside(*args, **kwargs)
        return self._function(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise StrategyError(
            "a model inside an attach block cannot be copied or pickled as a whole: copy it before "
            "the block or after it; state_dict() and save_pretrained() work inside"
        )


def put(handle: RemovableHandle) -> RemovableHandle:
    """Gives a hook a name that is the same in every session, where torch counts up.

    Code that was compiled with it asks for the hook by its name, and a later session shall find
    that code again.
    """
    kinds = (handle.hooks_dict_ref, *handle.extra_dict_ref)
    for hooks in filter(None, (kind() for kind in kinds)):
        if handle.id in hooks:
            first = next(iter(hooks)) == handle.id
            hooks[NAME] = hooks.pop(handle.id)
            hooks.move_to_end(NAME, last=not first)
    handle.id = NAME
    return handle


@contextmanager
def kept_loss(model: PreTrainedModel, prompt: Callable[[], PromptState | None]) -> Iterator[None]:
    """While open, the model's own loss gets the labels of the positions that are left.

    `prompt` tells which prompt has just gone through the language model, None where nothing was
    taken out. Labels are the caller's, one per position of the uncompressed prompt. Text is never
    dropped, so no label of an answer is lost.
    """
    if "_loss_function" in model._modules:  # a module keeps its place
        yield
        return
    before = vars(model).get("_loss_function")

    def own() -> Callable[..., Any]:
        """The model's choice, which it makes (and may comment on) when it is asked."""
        if before is not None:
            return before
        del model._loss_function
        try:
            return model.loss_function
        finally:
            model.loss_function = hook

    def of_kept(logits: Tensor, labels: Tensor | None, *args: Any, **kwargs: Any) -> Any:
        passed = prompt()
        if passed is not None and passed.origin is not None and labels is not None:
            if kwargs.get("shift_labels") is not None:
                raise UnsupportedGenerationError(
                    "shift_labels count the positions of the uncompressed prompt: pass labels, "
                    "which are shifted after those of the removed tokens are taken out"
                )
            labels = passed.kept_labels(labels)
        return own()(logits, labels, *args, **kwargs)

    hook = Hook(of_kept)
    model.loss_function = hook
    try:
        yield
    finally:
        if vars(model).get("_loss_function") is hook:  # else the user's own, which stays
            if before is None:
                del model._loss_function
            else:
                model.loss_function = before
