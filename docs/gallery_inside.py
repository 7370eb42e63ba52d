"""Stages inside the vision tower in the gallery: they drop no token, so what is shown is which
patches the tower's layers worked on, at a setting in place of a budget.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenprune import registry
from tokenprune.bench.towers import Tower, own_grid
from tokenprune.evaluation.generate import Generated, generate
from tokenprune.loading.processor import GREEDY
from tokenprune.pictures.beside import beside
from tokenprune.pictures.charts import Curve, Point
from tokenprune.pictures.drawing import Drawing
from tokenprune.pictures.subject import Subject
from tokenprune.strategies.reuse import Reuse
from tokenprune.strategies.tome import ToMe
from tokenprune.strategy import Pipeline, Strategy, TowerMerger, TowerReuser, TowerStage

RESULTS = Path(__file__).resolve().parent / "results"
STAGES: Mapping[str, ToMe | Reuse] = {"tome": ToMe(r=28), "reuse": Reuse(threshold=0.2)}
VARIED = {"tome": "r", "reuse": "threshold"}  # what the study varies
LEFT = {"tome": "rows left behind the tower", "reuse": "patches through the tower"}
OVER = "the tower's multiply-adds, %"


def inside(name: str) -> bool:
    return issubclass(registry.get(name), TowerStage)


@dataclass(frozen=True)
class Merging(TowerMerger):
    """ToMe, and of every row of the grid the one that it ends in, for all frames of the clip."""

    host: ToMe
    groups: list[Tensor] = field(default_factory=list)

    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        return self.host.removed(layers, rows, first)

    def group(self, keys: Tensor, remove: int, first: int) -> Tensor:
        self.groups.append(self.host.group(keys, remove, first))
        return self.groups[-1]

    def worked(self) -> list[list[int]]:
        """Per frame the first patch of each row that is left."""
        ends = reduce(lambda before, group: group.gather(1, before), self.groups)
        frames = [reversed([*enumerate(frame)]) for frame in ends.tolist()]
        return [sorted({row: patch for patch, row in frame}.values()) for frame in frames]


@dataclass(frozen=True)
class Reusing(TowerReuser):
    """`reuse`, and which patches of the clip it lets skip."""

    host: Reuse
    marks: list[Tensor] = field(default_factory=list)

    def taken(self, patches: Tensor) -> Tensor:
        self.marks.append(self.host.taken(patches))
        return self.marks[-1]

    def worked(self) -> list[list[int]]:
        """Per frame the patches that go through the tower."""
        return [[*(~frame).nonzero().flatten().tolist()] for frame in self.marks[0]]


def answers(one: Subject, name: str, rounds: int = 1) -> list[Generated]:
    """Of the clip, under the stage at its setting."""
    return [_answer(one, STAGES[name]) for _ in range(rounds)]


def seen(one: Subject, name: str) -> dict[str, Any]:
    """What stands in the file beside what other strategies have."""
    host = STAGES[name]
    watched = Merging(host) if isinstance(host, ToMe) else Reusing(host)
    report = _answer(one, watched).report[0]
    vision = one.model.config.vision_config
    tower, grid = Tower.of(vision), own_grid(vision)
    assert report.tower is not None
    share = tower.share(report.frames, grid, report.tower.layers)
    return {
        "slots": watched.worked(),
        "grid": [*grid],
        "work": round(share, 4),
    }


def _answer(one: Subject, stage: Strategy) -> Generated:
    settings = {"max_new_tokens": one.config.max_new_tokens, **GREEDY}
    with torch.no_grad():
        return generate(one.model, Pipeline((stage,)), one.processor, one.inputs(), settings)


def setting(name: str) -> str:
    """As it is typed."""
    return f"{name}.{VARIED[name]}={getattr(STAGES[name], VARIED[name]):g}"


@cache
def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """Of the study of this stage; controls among them."""
    with (RESULTS / "tower.csv").open(encoding="utf-8", newline="") as file:
        return tuple(row for row in csv.DictReader(file) if row["method"] == name)


def cell(name: str, control: bool = False) -> Mapping[str, str]:
    """At the gallery's setting."""
    wanted = float(getattr(STAGES[name], VARIED[name]))
    at = [row for row in rows(name) if float(row["setting"]) == wanted]
    (found,) = [row for row in at if (row["control"] == "1") is control]
    return found


def curve_of(name: str) -> Drawing:
    """The stage beside the same work at random places, and the full model."""
    curves = [
        Curve(label, [_point(row) for row in rows(name) if row["control"] == control])
        for label, control in ((name, "0"), ("at random", "1"))
    ]
    some = cell(name)
    full = Point(100.0, 100 * (float(some["score"]) - float(some["to_full"])))
    return beside(curves[:1], curves[1], full, size=(8.0, 2.3), over=OVER)


def _point(row: Mapping[str, str]) -> Point:
    work, *score = (100 * float(row[key]) for key in _MEASURED)
    return Point(round(work, 1), *score)


_MEASURED = ("tower_flops", "score", "score_low", "score_high")
