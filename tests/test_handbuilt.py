"""The hand-built forward pass is the stock model where nothing is missing: what the tests of
families compare with can be trusted.
"""

from __future__ import annotations

import pytest
from families import ALL, Ask, Family
from handbuilt import NOTHING
from test_families import check, generated, kernels
from test_families_turns import ANSWER, check_turn, second_turn

GRIDDED = [family for family in ALL if family.mrope]
everyone = pytest.mark.parametrize("family", ALL, ids=[family.model_type for family in ALL])


@everyone
@kernels
def test_nothing_missing_is_stock_generate(family: Family, attention: str) -> None:
    model, prompt = family.model(attention), family.prompt()
    answer = generated(model, prompt)
    assert 1.5 < float(answer[1].std()) < 8.0, "weights are large enough that nothing ties"
    check(model, family, prompt, answer, lambda number: NOTHING)


@everyone
def test_nothing_missing_is_a_stock_second_turn(family: Family) -> None:
    one, other = family.clips
    model, prompt = family.model(), family.prompt([Ask(4, (one,), 5), Ask(1, (other,), 4)])
    names = {None} if family.types is None else {None, family.types[0]}
    for types in names:
        first = model.generate(**prompt.inputs, **ANSWER)
        check_turn(model, family, prompt, second_turn(model, prompt, first, types), ())


@everyone
def test_several_videos_of_a_sample_are_stock(family: Family) -> None:
    one, other = family.clips
    asks = [Ask(2, (one, other), 5), Ask(1, (other,), 4)]
    model, prompt = family.model(), family.prompt(asks)
    check(model, family, prompt, generated(model, prompt), lambda number: NOTHING)


@pytest.mark.parametrize("family", GRIDDED, ids=[family.model_type for family in GRIDDED])
def test_a_picture_beside_a_video_is_stock(family: Family) -> None:
    asks = [Ask(2, (family.clips[0],), 5, picture=True), Ask(1, (family.clips[1],), 4)]
    model, prompt = family.model(), family.prompt(asks)
    check(model, family, prompt, generated(model, prompt), lambda number: NOTHING)
