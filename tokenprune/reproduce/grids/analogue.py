"""A table's grid on the embedded models: run through a study's store, beside controls.

Every cell is compared, sample by sample, with the full model and with `random` and `uniform` at the
tokens that it was measured to keep.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import AUTO
from tokenprune.plugins import load_plugins
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.grids.arms import (
    FRAMES,
    KEEP,
    Arm,
    ArmCell,
    arms,
    at_budget,
    by_frames,
    cell_of,
    control,
    full_model,
    plugins,
    store,
)
from tokenprune.reproduce.grids.claims import claims_of
from tokenprune.reproduce.grids.grid import Grid
from tokenprune.reproduce.grids.lines import CONTROLS, Block, lines_of, retention
from tokenprune.reproduce.parts import Analogue
from tokenprune.reproduce.schema import Table
from tokenprune.study.config import Method, StudyConfig
from tokenprune.study.place import Place
from tokenprune.study.results import gather
from tokenprune.study.run import answered, extent_of

_BATCH = 8  # samples per forward pass, unless more are asked for
_RESAMPLES = 10_000


def run(id_: str, table: Table, config: ReproduceConfig, command: str) -> Grid:
    """Runs what is not finished, and returns all numbers.

    Raises ConfigError for a table without an analogue, TokenpruneError, OSError.
    """
    analogue = table.analogue
    if analogue is None:
        raise ConfigError(f"{id_} has no analogue: leave analogue=true out")
    files = plugins(id_, analogue)
    load_plugins(files)
    done = [
        _block(_study(analogue, frames, found, files, config), found, config, command)
        for frames, found in by_frames(arms(analogue)).items()
    ]
    if not done:
        raise ConfigError(f"{id_}: the analogue has no methods: add some to its file")
    blocks = [block for block, _, _ in done]
    _, settled, place = done[-1]
    lines = [line for block in blocks for line in lines_of(block, several=len(blocks) > 1)]
    extent = blocks[-1].cells[0].extent
    assert settled.samples is not None and settled.max_new_tokens is not None
    return Grid(
        model=analogue.model,
        task=analogue.task,
        samples=settled.samples,
        seed=config.seed,
        resamples=_RESAMPLES,
        max_new_tokens=settled.max_new_tokens,
        dtype=place.dtype,
        layers=extent.depth,
        cells=extent.cells,
        axes=_axes(analogue),
        translated=list(analogue.translated),
        lines=lines,
        claims=claims_of(table, blocks),
        **_where(place),
    )


def _block(
    study: StudyConfig, found: Sequence[Arm], config: ReproduceConfig, command: str
) -> tuple[Block, StudyConfig, Place]:
    """Methods first, since controls have the budgets that those were measured to keep."""
    extent, seed = extent_of(study), config.seed
    full, cells = full_model(extent), [cell_of(arm, extent, seed) for arm in found]
    out = store(Path(config.out).expanduser(), study)
    with answered(study, [full, *_distinct(cells)], out, command) as (_, _, answers):
        cells = [at_budget(cell, retention(answers[cell.slug])) for cell in cells]
    by_budget = {cell.tokens: cell for cell in cells}
    beside = [control(name, cell, seed) for cell in by_budget.values() for name in CONTROLS]
    every = [full, *cells, *beside]
    with answered(study, _distinct(every), out, command) as (settled, place, answers):
        results = gather(every, answers, study.resamples, seed)
    return Block(list(found), cells, results, answers), settled, place


def _distinct(cells: Sequence[ArmCell]) -> list[ArmCell]:
    """Each thing that runs once; two methods may come to the same."""
    return list({cell.slug: cell for cell in cells}.values())


def _study(
    analogue: Analogue,
    frames: int,
    found: Sequence[Arm],
    files: Sequence[str],
    config: ReproduceConfig,
) -> StudyConfig:
    methods = [Method(arm.spec, arm.label, dict(arm.options), arm.assistant) for arm in found]
    return StudyConfig(
        model=analogue.model,
        task=analogue.task,
        frames=frames,
        samples=config.limit or analogue.samples,
        seed=config.seed,
        batch_size=AUTO if config.batch_size == AUTO else max(_BATCH, config.batch_size),
        device=config.device,
        dtype=config.dtype or "auto",
        plugin=list(files),
        strategies=methods,
        allocator=None,
        assistants=[],
        resamples=_RESAMPLES,
    )


def _axes(analogue: Analogue) -> dict[str, list[Any]]:
    """Those that vary."""
    axes = {**analogue.axes, KEEP: list(analogue.keep)}
    axes.setdefault(FRAMES, [analogue.frames])
    return {name: list(values) for name, values in axes.items() if len(values) > 1}


def _where(place: Place) -> dict[str, Any]:
    found = place.environment
    names = ("tokenprune", "torch", "transformers")
    return {
        "machine": found["device_name"],
        "date": datetime.date.today().isoformat(),
        "revision": found["git_revision"],
        "versions": {name: found["versions"][name] for name in names},
    }
