"""Who runs cells: `launcher=`, and what a cluster is told. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.loading.variant import Prompted
from tokenprune.options import check_counts, key, meant

LOCAL, SHARED, SUBMITIT = "local", "shared", "submitit"
LAUNCHERS = (LOCAL, SHARED, SUBMITIT)
# of Slurm: a job is one process, and there are `jobs=` of them
_ONE = ("nodes", "ntasks_per_node", "tasks_per_node", "ntasks")


@dataclass(frozen=True, kw_only=True)
class Launched(Prompted):
    """Keys of whoever runs many cells."""

    launcher: str = key(
        LOCAL,
        "local; shared: one of several processes with this command and out=; submitit: jobs of a "
        "Slurm cluster that share the cells",
    )
    jobs: int | None = key(None, "of launcher=submitit: how many jobs; 1 by default")
    slurm: dict[str, Any] = key(
        dict, "of launcher=submitit: slurm.partition=gpu slurm.gpus_per_node=1 slurm.time=240 ..."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "jobs")
        if self.launcher not in LAUNCHERS:
            near = meant(self.launcher, LAUNCHERS).replace("=?", "?")
            known = ", ".join(LAUNCHERS)
            raise ConfigError(f"launcher={self.launcher} is unknown{near} Launchers: {known}")
        if self.launcher == LOCAL and (self.jobs or self.slurm):
            name = "jobs" if self.jobs else f"slurm.{next(iter(self.slurm))}"
            raise ConfigError(f"{name}= is of a cluster: write launcher=submitit, or leave it out")
        for name in _ONE:
            if self.slurm.get(name, 1) != 1:
                raise ConfigError(
                    f"slurm.{name}={self.slurm[name]} would run cells several times: write "
                    "jobs=NUMBER for more processes"
                )
