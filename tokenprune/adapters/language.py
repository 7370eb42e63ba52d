"""How the rows of a prompt go through a family's language model: positions, masks, what goes along.

The defaults are those of a decoder with positions along one axis, all of whose layers see all rows.

Axes: `b` samples, `s` rows, `m` those that are left, `t` columns a cache has seen, `d` width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from tokenprune.adapters.rows import Rows

Given = Mapping[str, Any]  # the arguments of a call to a module, by name


class LanguageRows(ABC):
    """The part of an adapter that knows the language model's arguments."""

    # of rows behind tokens that are gone: counted anew, or those of the uncompressed prompt
    positions: ClassVar[Literal["contiguous", "original"]] = "contiguous"
    # what a guide reads of the language model's arguments: those with an entry for each row
    row_arguments: ClassVar[tuple[str, ...]] = ("inputs_embeds", "attention_mask", "position_ids")

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """Receives `inputs_embeds`, `position_ids`, `attention_mask` and a key/value cache."""

    @property
    def text_config(self) -> PreTrainedConfig:
        return self.language_model.config

    def check(self, given: Given, rows: Rows) -> None:  # noqa: B027  most have nothing to check
        """Raises UnsupportedGenerationError for a video prompt that the model itself misreads.

        `given` is the call of the language model.
        """

    def norm(self, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """What stands between the last decoder layer and the head."""
        return self.language_model.get_submodule("norm")(hidden)

    def rotation(
        self, layer: int, hidden: Float[Tensor, "b s d"], positions: Int[Tensor, "b s"]
    ) -> tuple[Tensor, ...]:
        """What a decoder layer takes as `position_embeddings` of rows at `positions`."""
        rotate = self.language_model.get_submodule("rotary_emb")
        return rotate(hidden, positions.to(hidden.device))

    # masks

    def window(self, layer: int) -> int | None:
        """How many rows a decoder layer looks back; None where it sees all that there are.

        Layers of one window get the same arguments.
        """
        return None

    def blocks(self, given: Given) -> Int[Tensor, "b s"] | None:
        """Of each row of a prompt, the number of the picture whose rows all see one another.

        -1 on other rows, None in families without such. `given` is the call to the model.
        """
        return None

    def prompt_mask(
        self,
        embeds: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"] | Int[Tensor, "b s"] | None,
        blocks: Int[Tensor, "b s"] | None,
    ) -> Any:
        """What the language model takes as the mask of a whole prompt."""
        return mask

    def layer_mask(
        self,
        layer: int,
        hidden: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b t"] | None,
        cache: Cache | None,
        blocks: Int[Tensor, "b s"] | None = None,
    ) -> Any:
        """The mask of a decoder layer in the form that the model's attention takes.

        `mask` covers what the layer's cache has seen, `blocks` a whole prompt. No positions are
        passed: gaps would be mistaken for several sequences packed into one.
        """
        mask = None if mask is None else mask.to(hidden.device)
        return create_causal_mask(self.text_config, hidden, mask, cache, layer_idx=layer)

    # what goes with rows

    def narrow(
        self, given: Given, columns: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"]
    ) -> dict[str, Any]:
        """Row-bound arguments of the language model, of `columns` of its prompt only.

        Embeddings and mask apart; `valid` is False where a column is padding.
        """
        positions = given.get("position_ids")
        if positions is None:
            return {}
        index = columns.to(positions.device).expand(*positions.shape[:-2], -1, -1)
        every = positions.expand(*positions.shape[:-2], len(columns), -1)
        return {"position_ids": every.gather(-1, index)}

    def withheld(self, given: Given, layer: int) -> dict[int, Float[Tensor, "b s d"]]:
        """What the language model would add to its rows between its layers from `layer` on.

        By the layer that would see it first. `given` is the model's running call, which adds none
        of it any more.
        """
        return {}
