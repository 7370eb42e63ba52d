"""Text to token ids: placeholders, control tokens, and what a tokenizer does not take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tokenprune.errors import PromptError

_QUOTED = 120  # characters


class Run(NamedTuple):
    """Rows of a video or an image, one behind another."""

    token: int  # id of the placeholder
    rows: int


class Spelling:
    """A tokenizer, and the token that stands for a row of a video.

    `mark` is what a prompt's text has for that token where the tokenizer does not know it (native
    LLaVA checkpoints); None where it does.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, placeholder: int, mark: str | None
    ) -> None:
        self.tokenizer, self.placeholder, self.mark = tokenizer, placeholder, mark

    def written(self, token: int) -> str:
        """What a prompt's text has for a placeholder."""
        if token == self.placeholder and self.mark is not None:
            return self.mark
        return str(self.tokenizer.convert_ids_to_tokens(token))

    def ids(self, pieces: Sequence[str | Run], question: str) -> tuple[list[int], list[int]]:
        """Token ids of a whole prompt, and how often each is to be repeated.

        `question` is what errors are about. Raises PromptError.
        """
        runs = [piece for piece in pieces if isinstance(piece, Run)]
        text = "".join(
            self.written(piece.token) if isinstance(piece, Run) else piece for piece in pieces
        )
        bos = self.tokenizer.bos_token
        begun = bos is not None and text.startswith(str(bos))
        ids = self._marked(text, question, add_special_tokens=not begun)
        placeholders = {run.token for run in runs}
        found = [one for one in ids if one in placeholders]
        if found != [run.token for run in runs]:
            raise self.unfit(question, self.written(self.placeholder), len(found), len(runs))
        waiting = iter(runs)
        return ids, [next(waiting).rows if one in placeholders else 1 for one in ids]

    def unfit(self, question: str, mark: str, found: int, wanted: int) -> PromptError:
        often = "once" if wanted == 1 else f"{wanted} times"
        return PromptError(
            f"the prompt of the question {shorten(question)} holds {found} times {mark}, which "
            f"stands for the video, and not {often}: the chat template of the checkpoint does not "
            "fit"
        )

    def check(self, question: str, marks: Sequence[str]) -> None:
        """Raises PromptError for a question that would be read as more than text.

        `marks` are what prompts are split at.
        """
        held = next((mark for mark in marks if mark in question), None) or self._special(question)
        if held:
            raise PromptError(
                f"the question {shorten(question)} must not contain {held}, which the checkpoint "
                "reads as a control token and not as text: write it differently, with a blank "
                "inside for example"
            )

    def _special(self, question: str) -> str:
        """The first control token that a question would be read as having; empty if it is text
        throughout.
        """
        known = self.tokenizer.added_tokens_decoder
        special = {
            self.placeholder,
            *self.tokenizer.all_special_ids,
            *(i for i, token in known.items() if token.special),
        }
        special.discard(self.tokenizer.unk_token_id)  # of a word that the tokenizer does not know
        ids = self._tokens(question, question, add_special_tokens=False)
        found = next((i for i in ids if i in special), None)
        return "" if found is None else str(self.tokenizer.convert_ids_to_tokens(found))

    def _marked(self, text: str, question: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a whole prompt; a mark that the tokenizer does not know becomes the placeholder's
        id, as in the llava package.
        """
        first, *parts = [text] if self.mark is None else text.split(self.mark)
        ids = self._tokens(first, question, add_special_tokens=add_special_tokens)
        for part in parts:
            ids += [self.placeholder, *self._tokens(part, question, add_special_tokens=False)]
        return ids

    def _tokens(self, text: str, question: str, *, add_special_tokens: bool) -> list[int]:
        try:
            made: Any = self.tokenizer(text, add_special_tokens=add_special_tokens)
            return made["input_ids"]
        except Exception as error:  # a tokenizer's own: half a character, no text at all
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise PromptError(
                f"the tokenizer does not take the question {shorten(question)} ({reason})"
            ) from None


def padded(
    rows: Sequence[Int[Tensor, "_"]], pad: int
) -> tuple[Int[Tensor, "b s"], Int[Tensor, "b s"]]:
    """Ids of a batch, padded on the left, and where they are real."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, -len(row) :], mask[index, -len(row) :] = row, 1
    return ids, mask


def shorten(question: str) -> str:
    """As it is quoted in a message, where it may be a page long."""
    return repr(question if len(question) <= _QUOTED else question[:_QUOTED] + "...")
