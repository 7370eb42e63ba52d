"""Static caches: transformers' own compiled step runs on what is left of a prompt.

The backend needs no compiler, and a break of the graph is an error. torch makes whole graphs of
transformers' models since 2.7 or so: before, the stock model cannot be compiled either.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from families import FAMILIES
from models import llava_onevision, prompt
from transformers import CompileConfig
from transformers.cache_utils import StaticCache

from tokenprune import attach, build
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import UnsupportedGenerationError

STEPS = 7
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
RAGGED = ((4, 5), (2, 3), (6, 1))


def config() -> CompileConfig:
    """On any device, as a whole, without a compiler."""
    made = CompileConfig(fullgraph=True, backend="eager", mode=None)
    made._compile_all_devices = True
    return made


COMPILED: dict[str, Any] = {"cache_implementation": "static", "compile_config": config()}


def graphs() -> int:
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    torch._dynamo.reset()


def test_stock():
    model = llava_onevision()
    a = model.generate(**prompt(4), **GREEDY)
    assert torch.equal(a, model.generate(**prompt(4), **GREEDY, **COMPILED))
    with attach(model, "random"):
        a = model.generate(**prompt(4), **GREEDY)
        assert torch.equal(a, model.generate(**prompt(4), **GREEDY, **COMPILED))
