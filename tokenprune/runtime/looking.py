"""What a session does while a model looks at videos: behind the hooks of tower and projector."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import nn

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.borrowed import lendable
from tokenprune.compat import named
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.hooks import Hook, put
from tokenprune.runtime.seen import Seen, encoded
from tokenprune.runtime.tapping import Taps
from tokenprune.runtime.threads import Pass
from tokenprune.runtime.tower import TowerReading, tower_tap
from tokenprune.runtime.tower_stage import Inside
from tokenprune.tokens import Signals


class Looking:
    """Leaves what was seen in the readings of the thread's pass, for the prompt that comes next.

    `lends`: an assistant's tower would make the same of a video. `inside`: what works in the tower.
    """

    def __init__(
        self,
        adapter: VideoLLM,
        signals: Signals,
        lends: bool,
        taps: Taps,
        now: Pass,
        timed: bool,
        inside: Inside | None = None,
    ) -> None:
        self._inside = inside
        self._adapter, self._signals, self._lends = adapter, signals, lends
        self._taps, self._pass, self._timed = taps, now, timed

    def hook(self, stack: ExitStack) -> None:
        """Puts the hooks on, which closing `stack` takes off."""
        adapter = self._adapter
        if self._inside is not None:
            self._inside.hook(stack)
        before: list[tuple[nn.Module, Any]] = [(adapter.tower, self._before_tower)]
        if self._signals.projected:
            before.append((adapter.projector, self._before_projector))
        for module, function in before:
            handle = put(module.register_forward_pre_hook(Hook(function), with_kwargs=True))
            stack.callback(handle.remove)
        if self._lends:
            handle = put(adapter.tower.register_forward_hook(Hook(self._after_tower)))
            stack.callback(handle.remove)

    def encode(self, media: Mapping[str, Any]) -> dict[str, Any]:
        """See `Session.encode`."""
        now, adapter = self._pass, self._adapter
        now.readings.clear()
        try:
            features = encoded(adapter, media)
            now.clock.add("vision", now.since)
            Seen([*now.readings], clock=now.clock, owner=adapter).mark(features)
        finally:
            now.readings.clear()
            self.end()
        beside = {name: part for name, part in media.items() if not name.startswith("pixel")}
        return {**beside, **compat.handed(features, adapter.modality)}

    def end(self) -> None:
        """The tower's attention is read no longer."""
        if self._signals.attends:
            self._taps.pop(self._adapter.tower_attention, None)

    def _before_tower(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        now = self._pass
        clock = now.clock = Clock(self._adapter.devices, self._timed)
        now.since = clock.now()
        given = named(module, args, kwargs)
        reading = TowerReading(given, self._adapter.shown(given))
        # a prompt needs at most its images' and its video's
        now.readings = [*now.readings[-1:], reading]
        if self._inside is not None:
            self._inside.begin(given, reading)
        if self._signals.attends:
            tap = tower_tap(self._adapter, self._signals, reading, clock)
            if self._inside is not None:
                tap = self._inside.around(tap)
            self._taps[self._adapter.tower_attention] = tap

    def _after_tower(self, module: nn.Module, args: Any, output: Any) -> None:
        """Keeps what the tower has made, for an assistant whose own would make the same."""
        if self._pass.readings:
            layers = self._adapter.tower_layers_read
            self._pass.readings[-1].output = lendable(output, layers)

    def _before_projector(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Keeps what the projector takes, on the grid of the tokens."""
        now, states = self._pass, named(module, args, kwargs)
        if now.readings:
            with now.clock.inner("strategy"):
                given = next(iter(states.values()))
                now.readings[-1].note_projected(self._adapter, self._signals, given)
