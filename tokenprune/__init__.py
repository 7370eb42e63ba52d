"""Training-free visual-token compression for video LLMs.

    import tokenprune
    with tokenprune.attach(model, "dycoke+dytok", options={"dycoke.merge": 0.5}) as session:
        ids = model.generate(**inputs)
    session.report[0].input_ratio

Names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tokenprune.asking.models import load as load
    from tokenprune.asking.questions import ask as ask
    from tokenprune.errors import StrategyError as StrategyError
    from tokenprune.errors import TokenpruneError as TokenpruneError
    from tokenprune.loading.video import read_frames as read_frames
    from tokenprune.registry import build as build
    from tokenprune.registry import get as get
    from tokenprune.registry import names as names
    from tokenprune.results.read import read as read
    from tokenprune.runtime.session import Session as Session
    from tokenprune.runtime.session import attach as attach
    from tokenprune.strategy import Adjustable as Adjustable
    from tokenprune.strategy import Allocator as Allocator
    from tokenprune.strategy import Condenser as Condenser
    from tokenprune.strategy import DecodeStage as DecodeStage
    from tokenprune.strategy import Extent as Extent
    from tokenprune.strategy import Pipeline as Pipeline
    from tokenprune.strategy import PrefillStage as PrefillStage
    from tokenprune.strategy import TowerMerger as TowerMerger
    from tokenprune.strategy import TowerReader as TowerReader
    from tokenprune.strategy import TowerReuser as TowerReuser
    from tokenprune.strategy import TowerStage as TowerStage
    from tokenprune.strategy import VisionStage as VisionStage
    from tokenprune.tokens import Probe as Probe
    from tokenprune.tokens import SequenceView as SequenceView
    from tokenprune.tokens import Signals as Signals
    from tokenprune.tokens import Survivors as Survivors
    from tokenprune.tokens import VisualTokens as VisualTokens

_HOME = {
    "tokenprune.asking.models": ("load",),
    "tokenprune.asking.questions": ("ask",),
    "tokenprune.errors": ("StrategyError", "TokenpruneError"),
    "tokenprune.loading.video": ("read_frames",),
    "tokenprune.registry": ("build", "get", "names"),
    "tokenprune.results.read": ("read",),
    "tokenprune.runtime.session": ("Session", "attach"),
    "tokenprune.strategy": (
        "Adjustable",
        "Allocator",
        "Condenser",
        "DecodeStage",
        "Extent",
        "Pipeline",
        "PrefillStage",
        "TowerMerger",
        "TowerReader",
        "TowerReuser",
        "TowerStage",
        "VisionStage",
    ),
    "tokenprune.tokens": ("Probe", "SequenceView", "Signals", "Survivors", "VisualTokens"),
}
_LAZY = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_LAZY)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
