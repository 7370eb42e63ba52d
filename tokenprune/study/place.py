"""Where a study's models run, and what everything that its answers go through is at the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import torch

from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.results.provenance import Code, code_of, code_of_package
from tokenprune.results.record import environment
from tokenprune.results.reuse import weights
from tokenprune.study.config import SELF, StudyConfig
from tokenprune.study.plan import Cell


@dataclass(frozen=True)
class Place:
    """The machine, the weights and the code of a study."""

    device: torch.device
    dtype: str
    environment: Mapping[str, Any]  # of a process that runs a cell
    weights: Mapping[str, Mapping[str, str]]  # digests of a model's files, by its name
    code: Code  # of the loop and the task
    strategies: Mapping[str, Code]

    def code_of(self, cell: Cell) -> Code:
        """All that a cell's answers go through."""
        named = () if cell.pipeline is None else cell.pipeline.strategies
        return reduce(or_, (self.strategies[strategy.name] for strategy in named), self.code)

    @property
    def all_code(self) -> Code:
        return reduce(or_, self.strategies.values(), self.code)


def place_of(
    config: StudyConfig, cells: Sequence[Cell], task: type, command: str = "tokenprune study"
) -> Place:
    """`task` is the class that makes the samples. Raises LoadingError, UnsupportedModelError."""
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, configuration(config.model, config))
    models = {config.model, *(cell.guided_by for cell in cells)} - {SELF, None}
    kinds = {
        strategy.name: type(strategy)
        for cell in cells
        if cell.pipeline is not None
        for strategy in cell.pipeline.strategies
    }
    return Place(
        device,
        str(dtype).removeprefix("torch."),
        {**environment(device, dtype, command), "threads": 1},  # as workers have it
        {str(name): weights(str(name), config.template) for name in models},
        code_of_package() | code_of(task),
        {name: code_of(kind) for name, kind in kinds.items()},
    )
