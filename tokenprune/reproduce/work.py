"""Runs jobs one after the other; every figure is on disk before the next job begins.

Several processes may work into one folder, on one GPU each, see `shared`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenprune.errors import TokenpruneError
from tokenprune.reproduce import ours
from tokenprune.reproduce.available import lacking
from tokenprune.reproduce.cell import Found, Key
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import read_table
from tokenprune.reproduce.jobs import SCORE, Job, Planned
from tokenprune.reproduce.protocol import read_protocol, samples
from tokenprune.reproduce.schema import Table
from tokenprune.reproduce.shared import shared

JOBS, LOCKS = "jobs", "locks"  # folders in out=
Say = Callable[[str], None]


@dataclass(frozen=True)
class Worked:
    """How many jobs were finished, what others failed of, and what the rest lacks, job by job."""

    done: int = 0
    failed: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


def work(planned: Sequence[Planned], config: ReproduceConfig, command: str, say: Say) -> Worked:
    """Does those jobs that can be done here.

    A job that fails does not keep the others from being done. Raises OSError; whatever happens,
    finished jobs and their figures stay.
    """
    asked = [(one, lacking(one.job, config)) for one in planned]
    possible = [one for one, why in asked if why is None]
    lacks = tuple(why for _, why in asked if why is not None)
    out = Path(config.out).expanduser()
    done, failed = 0, list[str]()
    for one in shared(possible, out / LOCKS, say):
        say(f"job {one.job.folder}, for {len(one.places)} cells, of {len(possible)} jobs")
        try:
            _store(out, _done(one, out / JOBS / one.job.folder, config, command))
            done += 1
        except TokenpruneError as error:
            failed.append(f"{one.places[0].row}: {error}")
            say(f"failed: {error}")
    return Worked(done, tuple(failed), lacks)


def _done(
    one: Planned, folder: Path, config: ReproduceConfig, command: str
) -> list[tuple[str, Key, Found]]:
    """What a job found, by table and cell."""
    from tokenprune.reproduce import scores, speed  # heavy

    found = []
    if one.job.kind == SCORE:
        run, task = scores.do(one.job, folder, config, command), scores.asked(one.job)
        for place in one.places:
            table = read_table(place.id_)
            column = table.columns[place.column]
            of, judge = samples(table, place.column), _judge(table, one.job)
            mine = scores.read(one.job, run, task, column, of, judge, config)
            found.append((place.id_, (place.row, place.column), mine))
        return found
    bench = speed.do(one.job, folder, config, command)
    for place in one.places:
        column = read_table(place.id_).columns[place.column]
        mine = speed.read(one.job, bench, column, folder)
        found.append((place.id_, (place.row, place.column), mine))
    return found


def _judge(table: Table, job: Job) -> str | None:
    """The model that judged the printed answers."""
    return None if table.protocol is None else read_protocol(table.protocol).task(job.task).judge


def _store(out: Path, found: Sequence[tuple[str, Key, Found]]) -> None:
    for id_ in {id_ for id_, _, _ in found}:
        mine = {key: value for other, key, value in found if other == id_}
        ours.add(ours.own(out, id_), mine)
