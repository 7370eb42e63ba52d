"""What hangs on a language model while a pass needs it, and at no other time.

Most decoding steps act in no layer, and a hook costs in every layer that has it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch.utils.hooks import RemovableHandle

from tokenprune.adapters import VideoLLM
from tokenprune.runtime import compiled
from tokenprune.runtime.hooks import Hook, put


class Hanging:
    """Hooks on decoder layers, each for as long as any pass acts in its layer.

    Threads share the layers, so passes are counted; `entered` has to know whether it is asked about
    a pass that acts. Ours come first: whatever else hangs on a layer sees what the layer gets.
    """

    def __init__(self, adapter: VideoLLM, entered: Callable[..., Any]) -> None:
        self._adapter, self._entered = adapter, entered
        self._lock = threading.RLock()  # a dropped session may end while its thread holds it
        self._passes: Counter[int] = Counter()
        self._handles: dict[int, RemovableHandle] = {}
        self._over = False
        self._compiled: set[int] = set()  # layers whose hooks stay

    def hang(self, layers: Iterable[int]) -> None:
        with self._lock:
            for layer in layers:
                if self._over:
                    return
                self._passes[layer] += 1
                if layer not in self._handles:
                    inside = partial(compiled.layer, layer, self._adapter.rotation)
                    hook = Hook(partial(self._entered, layer), inside)
                    self._handles[layer] = put(
                        self._adapter.layers[layer].register_forward_pre_hook(
                            hook, prepend=True, with_kwargs=True
                        )
                    )

    def hold(self, layers: Iterable[int]) -> None:
        """Leaves hooks on until the end: torch finds them whenever it makes a graph of the model,
        for steps that then run without any pass of ours.
        """
        with self._lock:
            new = {*layers} - self._compiled
            self._compiled |= new
            self.hang(new)

    def take_off(self, layers: Iterable[int]) -> None:
        """Ends what one `hang` of the same layers began."""
        with self._lock:
            for layer in layers:
                self._passes[layer] -= 1
                if not self._passes[layer] and layer in self._handles:
                    self._handles.pop(layer).remove()

    def end(self) -> None:
        """Takes everything off for good."""
        with self._lock:
            self._over = True
            while self._handles:
                self._handles.popitem()[1].remove()
