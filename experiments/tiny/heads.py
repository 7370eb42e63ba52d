"""What single tokens should know: losses that only training needs, and their heads.

*Alignment*: a projected token names colour, shape and smallness of what its cell shows, and its row
and column. *Course*: halfway up the decoder a token names its frame, the way its object has moved
and how far, and whether it has changed.

Nothing here waits for the device: what does not count is masked, not picked out.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, rms_norm
from transformers import PreTrainedTokenizerFast

from experiments.tiny.labels import UNCLEAR
from experiments.tiny.text import ids
from tokenprune.tasks.scenes import COLOURS, DIRECTIONS, SHAPES

# of the alignment's logits: keeps projected tokens about as long as word embeddings
_SHARPNESS = 3.0
_DRIFT = 2.0  # weight of the drift within the course
_GRID = 6  # cells of a row or column
LONGEST = 64  # frames


class Heads(nn.Module):
    """The heads, and the words whose embeddings they use."""

    def __init__(self, tokens: PreTrainedTokenizerFast, width: int) -> None:
        super().__init__()
        # "no colour", "no shape", "not small"
        self.nothing = nn.Parameter(torch.randn(3, width) * width**-0.5)
        self.place = nn.Linear(width, 2 * _GRID)
        self.clock, self.turned, self.drift = (nn.Linear(width, n) for n in (LONGEST, 2, 2))
        for name, words in (
            ("colours", COLOURS),
            ("shapes", SHAPES),
            ("sizes", ("small",)),
            ("ways", DIRECTIONS),
        ):
            # int64 [words 2]: without and with a blank before it
            forms = torch.tensor([ids(tokens, word, f"Ġ{word}") for word in words])
            self.register_buffer(name, forms, persistent=False)
        self.ways: Tensor

    def alignment(self, video: Tensor, cells: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
        """Pulls what a cell's token says towards the embeddings of the words for what it shows.

        LLaVA's first stage does the same with captions; here every cell has one. `video` is float
        [b f c d], `cells` int64 [b 3 f c]; the result's `loss` is the sum.
        """
        tokens = video.flatten(0, 2).float()
        place = self.place(tokens).unflatten(-1, (2, _GRID)).float()
        cell = torch.arange(_GRID**2, device=tokens.device).repeat(len(tokens) // _GRID**2)
        loss = cross_entropy(place[:, 0], cell // _GRID) + cross_entropy(place[:, 1], cell % _GRID)
        told = {}
        for number, name in enumerate(("colours", "shapes", "sizes")):
            words = embeddings[getattr(self, name)].sum(1)
            classes = torch.cat([words, self.nothing[number, None]])
            logits, target = _SHARPNESS * tokens @ classes.T, cells[:, number].flatten()
            usual = target == len(classes) - 1
            missed, told[f"cells/{name}"] = _balanced(logits, target, usual)
            loss = loss + missed
        return {"loss": loss, **told}

    def course(
        self, halfway: Tensor, course: Tensor, drift: Tensor, embeddings: Tensor, *, clock: bool
    ) -> dict[str, Tensor]:
        """What tokens that show an object should have found out about it from the frames so far.

        Of k tokens: `halfway` float [b k d], `course` int64 [b 3 k], `drift` float [b k 2].
        Without `clock` nobody asks which frame it is: where tokens are missing none can tell.
        """
        way, frame, turned = course.transpose(0, 1).flatten(1)
        tokens = rms_norm(halfway.float(), halfway.shape[-1:]).flatten(0, 1)
        clear, come = frame >= 0, drift.flatten(0, 1).float()
        apart = (self.drift(tokens).float() - come).square().mean(-1)
        missed = _mean(apart, clear)
        known = {"cells/drift": 1 - missed.detach() / _mean(come.square().mean(-1), clear)}
        ways, known["cells/ways"] = _asked(tokens @ embeddings[self.ways].sum(1).T, way, way >= 0)
        changed, known["cells/turned"] = _balanced(self.turned(tokens), turned, turned == 0)
        loss = _DRIFT * missed + ways + changed
        if clock:
            moment, known["cells/frame"] = _asked(self.clock(tokens), frame, clear)
            loss = loss + moment
        return {"loss": loss, **known}

    def store(self, file: Path) -> None:
        """Keeps the heads for a later training."""
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, file)

    def restore(self, file: Path) -> None:
        """Takes over an earlier training's heads; its clock may have had fewer frames."""
        state = self.state_dict()
        for name, value in load_file(file).items():
            if value.shape[1:] != state[name].shape[1:]:
                raise ValueError(f"{file} holds heads of a model of another width")
            state[name][: len(value)] = value
        self.load_state_dict(state)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of those that count, 0 where none does."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _asked(logits: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and share of right answers of those that count."""
    missed = cross_entropy(logits.float(), target, reduction="none", ignore_index=UNCLEAR)
    return _mean(missed, mask), _mean((logits.argmax(-1) == target).float(), mask)


def _balanced(logits: Tensor, target: Tensor, usual: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy in which the few cells that show something weigh as much as the others.

    The many others are the `usual` ones. The second result is the share of right answers about the
    few.
    """
    missed = cross_entropy(logits.float(), target, reduction="none", ignore_index=UNCLEAR)
    special = (target >= 0) & ~usual
    right = (logits.argmax(-1) == target).float()
    return _mean(missed, special) + _mean(missed, usual), _mean(right, special)
