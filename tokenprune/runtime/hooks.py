"""What a session hangs on a model: callables that cannot be copied or pickled.

Neither can the model, as long as it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from torch import Tensor
from transformers import PreTrainedModel

from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.runtime.prompt_state import PromptState


class Hook(partial[Any]):
    """A function that belongs to one session: a copy of the model would go on calling it."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise StrategyError(
            "a model inside an attach block cannot be copied or pickled as a whole: copy it before "
            "the block or after it; state_dict() and save_pretrained() work inside"
        )


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
