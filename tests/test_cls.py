"""Towers that put a CLS row before a frame's patches, and strategies that want to read it."""

from __future__ import annotations

import pytest
import towers
from families import FAMILIES
from test_families import REGISTERED
from test_families_towers import check, read

from tokenprune import attach
from tokenprune.adapters import families
from tokenprune.errors import StrategyError
from tokenprune.tokens import Signals

WITH = [kind for kind in REGISTERED if families()[kind].cls]
CLS = Signals("cls", "head_mean")
SPECS = [("prumerge", {"prumerge.proxy": "cls"}), ("visionzip", {"visionzip.saliency": "cls"})]


def test_which_families_have_one() -> None:
    assert {"llava_next_video", "video_llava", "internvl"} == set(WITH)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", WITH)
def test_its_attention_is_the_saliency_of_patches(kind: str, attention: str) -> None:
    family = FAMILIES[kind]
    model, prompt = family.build(attention), family.prompt()
    expected = towers.of_frames(model, prompt.inputs, family.clips, *map(str, CLS[:2]))
    found = read(model, prompt.inputs, CLS)
    check(found, expected)
    other = towers.of_frames(model, prompt.inputs, family.clips, "received", "head_mean")
    assert float((found[0][0] - other[0][0]).abs().max()) > 0.01, "it is another signal"


@pytest.mark.parametrize(("spec", "options"), SPECS)
@pytest.mark.parametrize("kind", WITH)
def test_strategies_read_it(kind: str, spec: str, options: dict[str, str]) -> None:
    family = FAMILIES[kind]
    model, prompt = family.build(), family.prompt()
    kept = []
    for chosen in (options, None):
        with attach(model, spec, chosen) as session:
            model.generate(**prompt.inputs, max_new_tokens=2, do_sample=False)
        kept.append([session.report[number].slots for number in prompt.videos()])
        assert all(session.report[number].input_ratio < 1.0 for number in prompt.videos())
    assert kept[0] != kept[1], "it chooses other tokens"


@pytest.mark.parametrize(("spec", "options"), SPECS)
@pytest.mark.parametrize("kind", [kind for kind in REGISTERED if kind not in WITH])
def test_it_is_refused_where_there_is_none(kind: str, spec: str, options: dict[str, str]) -> None:
    with pytest.raises(StrategyError) as refused:
        attach(FAMILIES[kind].build(), spec, options)
    assert str(refused.value) == (
        f"{spec} reads saliency='cls' of the vision tower, which that of {kind} does not give: "
        "choose 'received' or 'mean_query' or 'pseudo_cls'"
    )
