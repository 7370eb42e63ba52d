"""The hand-built forward pass is the stock model where nothing is missing: what the tests of
families compare with can be trusted.
"""

from __future__ import annotations

import handbuilt
import pytest
import torch
from families import ALL, Family

STEPS = 6


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ALL, ids=[family.model_type for family in ALL])
def test_nothing_missing_is_stock_generate(family: Family, attention: str) -> None:
    model, prompt = family.build(attention), family.prompt()
    out = model.generate(
        **prompt.inputs,
        max_new_tokens=STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    words = out.sequences[:, -STEPS:-1]
    found = torch.stack(out.logits, dim=1)
    assert 1.5 < float(found.std()) < 8.0, "weights are large enough that nothing ties"
    for number, inputs in enumerate(prompt.alone):
        expected = handbuilt.logits(model, handbuilt.whole(model, family, inputs), words[number])
        assert torch.allclose(found[number], expected, atol=2e-5), number
