"""Further turns of every registered family: the whole conversation, hand-built on what is left of
its video.
"""

from __future__ import annotations

from typing import Any

import handbuilt
import pytest
import torch
from families import FAMILIES, Ask, Family, Prompt
from family_stages import left
from test_families import REGISTERED, STEPS, everywhere, stages_of
from torch import Tensor

from tokenprune import attach
from tokenprune.compat import caching, filled_cache
from tokenprune.strategy import Pipeline

ANSWER: dict[str, Any] = {
    "max_new_tokens": STEPS,
    "do_sample": False,
    "output_logits": True,
    "return_dict_in_generate": True,
}
MORE = 4  # words of the second question
# families, and the argument that says the rows' kinds or None: both work in a second turn
SENT: list[tuple[str, str | None]] = [(kind, None) for kind in REGISTERED]
SENT += [(kind, kinds[0]) for kind in REGISTERED if (kinds := FAMILIES[kind].types) is not None]


def second_turn(model: Any, prompt: Prompt, first: Any, types: str | None) -> Any:
    """Asks on, behind a first answer; `types` is the name of the rows' kinds, if they go along."""
    ids = first.sequences
    question = torch.arange(len(ids) * MORE).view(len(ids), MORE) % 50 + 8
    ids = torch.cat([ids, question], dim=1)
    mask = prompt.inputs["attention_mask"]
    sent = {"input_ids": ids, "attention_mask": behind(mask, ids, 1)}
    if types is not None:
        sent[types] = behind(prompt.inputs[types], ids, 0)
    return model.generate(**sent, **caching(model, filled_cache(first)), **ANSWER)


def behind(rows: Tensor, ids: Tensor, value: int) -> Tensor:
    """`rows` made as long as `ids`."""
    more = ids.shape[1] - rows.shape[1]
    return torch.cat([rows, rows.new_full((len(rows), more), value)], dim=1)


@torch.no_grad()
def check_turn(
    model: Any, family: Family, prompt: Prompt, second: Any, stages: tuple[Any, ...]
) -> None:
    """The second answer's logits are those behind prompt, first answer and question."""
    length = prompt.inputs["input_ids"].shape[1]
    found = torch.stack(second.logits, dim=1)
    for number, inputs in enumerate(prompt.alone):
        sample = handbuilt.whole(model, family, inputs)
        words = second.sequences[number, length:-1]
        expected = handbuilt.logits(
            model, sample, words, left(prompt, number, stages), places(sample, len(words))
        )
        difference = float((found[number] - expected[-STEPS:]).abs().max())
        assert difference < handbuilt.ROUNDING, (number, difference)


def places(sample: handbuilt.Sample, words: int) -> Tensor | None:
    """Positions of both turns' words.

    The first answer goes on behind the last row, and what follows behind the largest position: so
    does stock `generate`.
    """
    if sample.positions is None:
        return None
    first = sample.positions[0, -1] + 1 + torch.arange(STEPS - 1)
    return torch.cat([first, sample.farthest + 1 + torch.arange(STEPS - 1, words)])


@pytest.mark.parametrize(("kind", "types"), SENT)
@pytest.mark.parametrize(
    ("which", "batch"), [("", 2), ("input", 1), ("input", 2), ("early", 2), ("input+late", 1)]
)
def test_a_second_turn(kind: str, types: str | None, which: str, batch: int) -> None:
    family = FAMILIES[kind]
    asks = [Ask(4, (family.clips[0],), 5), Ask(1, (family.clips[1],), 4)][:batch]
    model, prompt = family.model(), family.prompt(asks)
    stages = stages_of(family, which) if which else ()
    with attach(model, Pipeline(stages)):
        first = model.generate(**prompt.inputs, **ANSWER)
        second = second_turn(model, prompt, first, types)
    check_turn(model, family, prompt, second, stages)


@everywhere
def test_an_emptied_cache_begins_anew(kind: str) -> None:
    family = FAMILIES[kind]
    stages = stages_of(family, "input+early")
    model = family.model()
    one, other = (family.prompt([Ask(4, (clip,), 5)]) for clip in family.clips)
    with attach(model, Pipeline(stages)):
        expected = model.generate(**other.inputs, **ANSWER)
        cache = filled_cache(model.generate(**one.inputs, **ANSWER))
        cache.reset()
        again = model.generate(**other.inputs, **caching(model, cache), **ANSWER)
    assert torch.equal(again.sequences, expected.sequences)
    assert torch.equal(torch.stack(again.logits), torch.stack(expected.logits))
