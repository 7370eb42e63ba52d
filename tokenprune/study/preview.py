"""What a study or sweep would run, as plain values that `print=true` shows and `config=` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenprune.plugins import load_plugins
from tokenprune.registry import resolved_fields
from tokenprune.study.config import StudyConfig, folder_of
from tokenprune.study.grid import plan_grid
from tokenprune.study.plan import Cell, plan_cells
from tokenprune.study.run import extent_of
from tokenprune.study.sweep import SweepConfig


def preview_study(file: Path, config: StudyConfig) -> dict[str, Any]:
    """Raises TokenpruneError."""
    load_plugins(config.plugin)
    cells = plan_cells(config, extent_of(config))
    return _preview("study", config, cells, folder_of(file, config))


def preview_sweep(config: SweepConfig) -> dict[str, Any]:
    """Raises TokenpruneError."""
    load_plugins(config.plugin)
    _, cells = plan_grid(config, extent_of(config))
    return _preview("sweep", config, cells, Path(config.folder))


def _preview(
    section: str, config: StudyConfig | SweepConfig, cells: Sequence[Cell], folder: Path
) -> dict[str, Any]:
    """Keys, the options of every cell or why there is none, budgets in tokens per frame."""
    strategies = {
        cell.slug: cell.reason if cell.pipeline is None else resolved_fields(cell.pipeline)
        for cell in cells
    }
    budgets = {f"{cell.requested:g}": cell.tokens for cell in cells}
    return {
        section: dataclasses.asdict(config),
        "strategies": strategies,
        "budget": budgets,
        "folder": str(folder),
    }
