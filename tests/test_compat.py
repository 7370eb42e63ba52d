"""Names that transformers has renamed: asked of the module at hand, and written down in one file
only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import llava_onevision, prompt
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import Cache

from tokenprune import attach
from tokenprune.compat import CACHE, caching, filled_cache, given_cache, named

PACKAGE = Path(__file__).parent.parent / "tokenprune"


class New(nn.Module):
    def forward(self, hidden: Any, cache: Cache | None = None) -> Any:
        return hidden


class Old(nn.Module):
    def forward(self, hidden: Any, past_key_values: Cache | None = None) -> Any:
        return hidden


@pytest.mark.parametrize(("module", "name"), [(New(), "cache"), (Old(), "past_key_values")])
@pytest.mark.parametrize("said", CACHE)
def test_a_cache_is_handed_over_by_the_modules_own_name(module, name, said):
    """A caller may use the older name where a newer release takes both."""
    cache = DynamicCache()
    assert named(module, (1,), {said: cache}) == {"hidden": 1, name: cache}
    assert named(module, (1, cache), {}) == {"hidden": 1, name: cache}
    assert given_cache({said: cache, "other": 2}) is cache
    assert caching(module, cache) == {name: cache}


def test_the_cache_that_was_filled_is_found_in_what_comes_back():
    model = llava_onevision()
    with attach(model, "dycoke+dytok"), torch.no_grad():
        out = model(**prompt(4))
        done = model.generate(
            **prompt(4), max_new_tokens=2, do_sample=False, return_dict_in_generate=True
        )
    assert filled_cache(done).get_seq_length() == filled_cache(out).get_seq_length() + 1


@pytest.mark.parametrize("word", ["past_key_values", "mm_encoder_outputs"])
def test_such_names_stand_in_one_file(word):
    assert [path.name for path in PACKAGE.rglob("*.py") if word in path.read_text()] == [
        "compat.py"
    ]
