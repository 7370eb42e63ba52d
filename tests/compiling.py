"""Generation on a static cache, its step compiled, as tests ask for it."""

from __future__ import annotations

from typing import Any

from torch._dynamo.utils import counters
from transformers import CompileConfig

STEPS = 5
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
STATIC: dict[str, Any] = {**GREEDY, "cache_implementation": "static"}


def compiled(backend: str = "eager", **more: Any) -> dict[str, Any]:
    """On any device, as a whole, without a compiler."""
    mode: Any = None
    config: Any = CompileConfig(fullgraph=True, backend=backend, mode=mode)
    config._compile_all_devices = True
    return {**STATIC, "compile_config": config, "return_dict_in_generate": True, **more}


def graphs() -> int:
    """How many have been compiled since the counters were cleared."""
    return counters["stats"]["unique_graphs"]
