"""A table of the tests' own over lmms-eval's tasks: its columns, what scripted answers come to, and
where it was reproduced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from tokenprune.cli.main import main
from tokenprune.reproduce import ours
from tokenprune.reproduce.cell import Cell, Found
from tokenprune.reproduce.cells import cells
from tokenprune.reproduce.files import read_table

FAR = 250.0  # no score can be near it
MME = {"from": "score", "metric": "videomme_perception_score"}
COLUMNS: dict[str, Any] = {
    "vmme_s": {**MME, "task": "videomme", "part": {"duration": "short"}, "n": 1},
    "vmme_m": {**MME, "task": "videomme", "part": {"duration": "medium"}, "n": 2},
    "vmme_l": {**MME, "task": "videomme", "part": {"duration": "long"}, "n": 1},
    "vmme": {**MME, "task": "videomme"},
    "vmme_w": {**MME, "task": "videomme_w_subtitle"},
    "mlvu": {"from": "score", "task": "mlvu_test_030", "metric": "mlvu_percetion_score"},
    "lvb": {"from": "score", "task": "longvideobench_val_v", "metric": "lvb_acc", "scale": 100},
    "nextqa": {"from": "score", "task": "nextqa_mc_test", "metric": "exact_match", "scale": 100},
    "percep": {
        "from": "score",
        "task": "perceptiontest_val_mc",
        "metric": "accuracy",
        "scale": 100,
    },
    "ego": {"from": "score", "task": "egoschema_subset", "metric": "score", "scale": 100},
    "ego_total": {"from": "score", "task": "egoschema", "metric": "submission"},
    "mvb": {"from": "score", "task": "mvbench", "metric": "mvbench_accuracy"},
    "mvb_as": {
        "from": "score",
        "task": "mvbench",
        "part": {"sub_task": "mvbench_action_sequence"},
        "metric": "mvbench_accuracy",
        "n": 4,
    },
    "anet": {"from": "judged", "task": "activitynetqa", "metric": "gpt_eval_accuracy"},
}
# what SAID comes to under each benchmark's rules: counted by hand
FULL = {
    "vmme_s": 100.0,
    "vmme_m": 0.0,
    "vmme_l": 0.0,
    "vmme": 25.0,
    "vmme_w": 25.0,
    "mlvu": 100 / 9,  # one of nine types is right
    "percep": 25.0,
    "mvb": 100 / 3,  # the empty one is not counted
    "mvb_as": 100 / 3,
}
FASTV = {
    **dict.fromkeys(("vmme_s", "vmme_m", "vmme_l", "vmme", "mlvu"), 0.0),
    "mvb": 100 / 3,
    "mvb_as": 100 / 3,
}
GUESSING = ("lvb", "nextqa", "ego")  # a value that depends on guesses
OTHERS = {"nextqa", "anet"}  # that are printed of FastV, besides
JUDGE = "gpt-4o-mini"
PROTOCOLS = {"table1": "lmms-2024", "table2": "lmms-0.3.0"}


def table(protocol: str, columns: dict[str, Any]) -> dict[str, Any]:
    fastv = {"strategy": "fastv", "options": {"fastv.layer": 1, "fastv.drop": 0.5}}
    return {
        "title": "A table",
        "source": "the test",
        "protocol": protocol,
        "models": {"7B": "somebody/seven"},
        "defaults": {"model": "7B", "frames": 4},
        "columns": columns,
        "baseline": {"method": "Full"},
        "rows": [
            {
                "method": "Full",
                "run": {"strategy": "none"},
                "printed": [FULL.get(name, 50.0) for name in columns],
            },
            {
                "method": "FastV",
                "run": fastv,
                "printed": [FAR if name in {*FASTV, *OTHERS} else None for name in columns],
            },
            {
                "method": "Else",
                "blocked": {"kind": "protocol", "why": "nobody knows how"},
                "printed": [1.0] * len(columns),
            },
        ],
    }


@dataclasses.dataclass(frozen=True)
class Place:
    """Where videos, papers and finished jobs of the module are, and what was said of them."""

    hub: Path
    papers: Path
    out: Path
    plan: str
    said: str

    def cell(self, row: str, name: str, id_: str = "demo/table1", out: Path | None = None) -> Cell:
        made = cells(read_table(id_), ours.known(out or self.out, id_))
        (one,) = (cell for cell in made if (cell.row.label, cell.name) == (row, name))
        return one

    def found(self, row: str, name: str, out: Path | None = None) -> Found:
        found = self.cell(row, name, out=out).found
        assert found is not None
        return found

    def records(self, row: str, name: str, out: Path | None = None) -> list[dict[str, Any]]:
        folder = (out or self.out) / "jobs" / self.found(row, name, out).folder
        return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def reproduce(*words: str) -> str:
    """What the command prints, when it ends well."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["reproduce", "model.7B=tiny", "device=cpu", *words]) == 0
    return " ".join(said.getvalue().split())
