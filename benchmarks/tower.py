"""Whether stages inside the vision tower save the time that their multiply-adds promise.

Some layers of a real tower with random weights, on one core: the share of its time that a stage
saves, over the share of its multiply-adds. These are counted from the rows that the layers worked
on, as in a bench; what a stage computes to choose them is in its time alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import fold, unfold
from transformers import SiglipVisionModel

from tokenprune.adapters.vision import TowerBlock
from tokenprune.bench.shapes import shape_configuration
from tokenprune.bench.towers import Tower, own_grid
from tokenprune.loading.device import threads
from tokenprune.runtime.tapping import Taps, tapped
from tokenprune.runtime.tower_call import TowerCall
from tokenprune.runtime.tower_merging import Merging
from tokenprune.runtime.tower_reuse import Reusing
from tokenprune.strategies.reuse import Reuse
from tokenprune.strategies.tome import ToMe

SHAPE, LAYERS, FRAMES = "llava-onevision-0.5b", 3, 3  # all 26 layers would take minutes
MERGED = ToMe(r=130)  # as much in 3 layers as r=15 in 26
STILL = 0.75  # of the patches of every frame but the first: half of all
LEAST = 0.8


class Run:
    """The tower, and one call of it at a time under a stage or none."""

    def __init__(self) -> None:
        vision: Any = shape_configuration(f"shape:{SHAPE}").vision_config
        vision.num_hidden_layers = LAYERS
        torch.manual_seed(0)
        made: Any = SiglipVisionModel._from_config(vision, attn_implementation="sdpa")
        self._model = made.eval()
        self.config = made.config
        self._blocks = [
            TowerBlock(layer, layer.self_attn, layer.layer_norm2, layer.mlp)
            for layer in self._model.encoder.layers
        ]
        self._side = vision.patch_size
        self._pixels = _frames(vision.image_size, self._side)
        self.taps = Taps()
        self._call: TowerCall | None = None
        for kind in (Merging, Reusing):
            kind.hooks(self._blocks, lambda kind=kind: self._of(kind))

    def _of(self, kind: type[TowerCall]) -> TowerCall | None:
        return self._call if isinstance(self._call, kind) else None

    def merging(self) -> TowerCall:
        rows = own_grid(self.config).patches
        return Merging(MERGED, self._blocks, FRAMES, rows, 0)

    def reusing(self) -> TowerCall:
        patches = unfold(self._pixels, self._side, stride=self._side).transpose(1, 2)
        return Reusing.of(Reuse(), self._blocks, [patches], 0)

    def seconds(self, kind: Callable[[], TowerCall] | None) -> float:
        begun = time.thread_time()
        self._call = None if kind is None else kind()
        if self._call is not None:
            self.taps.update(self._call.taps())
        states = self._model(self._pixels).last_hidden_state
        took = time.thread_time() - begun
        if self._call is not None:  # what is counted is what was done
            worked = self._call.worked(slice(0, FRAMES))
            assert states.shape[0] * states.shape[1] == worked[-1].fed
        for block in self._blocks:
            self.taps.pop(block.attention, None)
        return took

    def saved(self, kind: Callable[[], TowerCall]) -> float:
        """The share of the tower's multiply-adds."""
        tower, grid = Tower.of(self.config), own_grid(self.config)
        return 1 - tower.share(FRAMES, grid, kind().worked(slice(0, FRAMES)))


def _frames(size: int, side: int) -> torch.Tensor:
    """Noise; of every frame but the first, as many patches as STILL says are the first's."""
    down = size // side
    cut = down * side
    frames = torch.rand(FRAMES, 3, size, size) * 2 - 1
    patches = unfold(frames[..., :cut, :cut], side, stride=side)
    still = torch.rand(patches.shape[-1]).argsort() < round(STILL * patches.shape[-1])
    patches[1:, :, still] = patches[:1, :, still]
    frames[..., :cut, :cut] = fold(patches, (cut, cut), side, stride=side)
    return frames


def ratios(turns: int = 5) -> dict[str, float]:
    """Time saved over multiply-adds saved, of each stage: median of turns that take turns with the
    stock tower.
    """
    with threads(1), torch.no_grad():
        run = Run()
        kinds = {"reuse": run.reusing, "tome": run.merging}
        found: dict[str, list[float]] = {name: [] for name in kinds}
        with tapped([run.config], run.taps) as reading, reading.under_way():
            run.seconds(None)
            for _ in range(turns):
                full = run.seconds(None)
                for name, kind in kinds.items():
                    found[name].append(1 - run.seconds(kind) / full)
        return {
            f"{name}, {100 * run.saved(kind):.0f} % of {LAYERS} layers": (
                statistics.median(found[name]) / run.saved(kind)
            )
            for name, kind in kinds.items()
        }
