"""What belongs to one thread's forward pass, so that threads can share an attached model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from tokenprune.runtime.clock import Clock
from tokenprune.runtime.media import VideoPrompt
from tokenprune.runtime.phase import Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.tower import TowerReading
from tokenprune.runtime.uncached import Uncached


class Pass(threading.local):
    """The forward pass under way in the current thread; every thread begins with an empty one."""

    def __init__(self, devices: Sequence[torch.device], timed: bool) -> None:
        # on its way from the model's inputs to its language model
        self.arrived: VideoPrompt | None = None
        self.mask: Any = None  # as the model was given it
        # within the language model; None for text, and while a guide reads
        self.phase: Phase | None = None
        self.reads = False  # whether it reads attention
        # what the last pass of the language model made of a prompt
        self.passed: PromptState | None = None
        self.readings: list[TowerReading] = []
        self.uncached: Uncached | None = None  # what `generate` may send again
        self.clock = Clock(devices, timed)
        self.since = 0.0
