"""Our operators against loops and against the memory: `python benchmarks/operators.py [THREADS]`.

Each operator runs on the same inputs as two references and must give the results of both: the loops
of `naive.py` and beside it, which the claims are about, and those of `careful.py` and beside it,
which say what is gained over good code. Temporal merging, which is bound by the memory, is also
held against one copy of its input. References and operator take turns after a warm-up, times are
medians, and what takes more than half a second gets fewer turns, a loop of many seconds one.
Measure on idle cores: loops start threads most often, so that neighbours slow them most.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import where
from cases import CELLS, FRAMES, PATCHES, Case, Merging, copies, operators
from cases_inside import inside
from cases_video import merging
from cases_vision import vision

from tokenprune.loading.device import threads

ROUNDS = 7
SLOW, ENDLESS = 500.0, 2000.0  # ms; a reference above gets half the rounds, or one that is checked

# times faster than the naive loop or the copy, at least; an operator that is not here is shown
# without a claim
CLAIMS = {
    "PruMerge": 10.0,
    "PruMerge+": 10.0,
    "VisionZip": 10.0,
    "VisionZip, 0.5B": 10.0,
    "DyToK allocation": 5.0,
    "DyToK allocation, 128 frames": 5.0,
    "FastV selection": 5.0,
    "DyCoke merging, against clone()": 1.0,
    "DivPrune": 5.0,
    "CDPruner": 5.0,
    "VisPruner": 5.0,
    "VidCom2": 5.0,
    "HoliTom": 5.0,
    "FastVID": 5.0,
    "FlashVID": 5.0,
    "PruneVid": 5.0,
    "FrameFusion": 5.0,
    "PyramidDrop event": 5.0,
    "DART selection": 5.0,
    "SparseVLM event": 5.0,
}
SLOWER = 0.5  # of a careful loop, which no operator may be


class Row(NamedTuple):
    name: str
    size: str
    references: tuple[float, ...]  # ms
    ours: float  # ms
    runs: tuple[int, ...]  # that each median is of, ours last

    @property
    def ratios(self) -> list[float]:
        """How many times faster than each reference."""
        return [reference / self.ours for reference in self.references]


def measure(case: Case, rounds: int) -> Row:
    """Checks that the results are equal, which warms up, then takes turns.

    What is slow sits out half of them, and what is endless all: its warm-up counts.
    """
    result = case.ours()
    turns: list[int] = []
    times: list[list[float]] = []
    for reference in case.references:
        expected, took = clocked(reference)
        case.check(expected, result)
        endless = took > ENDLESS
        times.append([took] if endless else [])
        turns.append(0 if endless else rounds if took < SLOW else max(1, rounds // 2))
    result = expected = None
    actions = *case.references, case.ours
    turns.append(rounds)
    times.append([])
    for turn in range(rounds):
        for action, taken, most in zip(actions, times, turns, strict=True):
            if turn < most:
                taken.append(clocked(action)[1])
    *references, ours = (statistics.median(taken) for taken in times)
    runs = tuple(map(len, times))
    return Row(case.name, case.size, tuple(references), ours, runs)


def clocked(action: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `action` and the milliseconds it took."""
    start = time.perf_counter()
    result = action()
    return result, 1e3 * (time.perf_counter() - start)


def cases() -> Iterator[Case]:
    """Everything that has a ratio."""
    # copies first: later the allocator hands out pages of earlier operators, and a clone gets what
    # a process that meets one video never gets, memory that need not be mapped
    yield from copies()
    yield from everything()


def everything(frames: int = FRAMES, cells: int = CELLS, patches: int = PATCHES) -> Iterator[Case]:
    """All operators with their inputs."""
    yield from operators(frames, cells, patches)
    yield from vision(frames, cells)
    yield from merging(frames, cells)
    yield from inside(frames, cells)


def ratios(rounds: int = ROUNDS) -> dict[str, float]:
    """How many times faster than the naive loop, or a copy, each operator is; see `CLAIMS`."""
    return {
        case.name: measure(case._replace(references=case.references[:1]), rounds).ratios[0]
        for case in cases()
    }


def verdict(row: Row) -> str:
    claim = CLAIMS.get(row.name)
    return "" if claim is None else f"{claim:3.0f}  {'met' if row.ratios[0] >= claim else 'missed'}"


def against_copies() -> Iterator[str]:
    yield (
        f"{'against one copy of the input':42} {'size':15} {'copy ms':>9} {'ours ms':>9} "
        f"{'times':>7}  "
        f"{'runs':6}  claim"
    )
    rows = []
    for case in copies():
        rows.append(row := measure(case, ROUNDS))
        copy, times = row.references[0], row.ratios[0]
        yield (
            f"{row.name:42} {row.size:15} {copy:9.2f} {row.ours:9.2f} {times:7.2f}  "
            f"{runs(row):6}  {verdict(row)}"
        )
    clone, mapped = (row.references[0] for row in rows[:2])
    dycoke = Merging.of(FRAMES, CELLS)
    kept = int(dycoke.strategy.quota(dycoke.tokens).sum()) / len(dycoke.tokens)
    yield (
        f"A clone gets new memory from the system and spends most of its {clone:.1f} ms on page "
        "faults, which merging "
        "has for what it writes; the same copy into memory that is mapped already takes "
        f"{mapped:.1f} ms."
    )
    yield (
        "A clone reads and writes all rows, merging reads all of them and writes those it "
        f"keeps, {kept:.0%} here."
    )


def against_loops() -> Iterator[str]:
    yield (
        f"{'against loops':39} {'size':37} {'naive ms':>9} {'careful ms':>10} {'ours ms':>8} "
        f"{'x naive':>8} {'x careful':>9}  {'runs':7}  claim on naive"
    )
    slower, much_slower = [], []
    for case in everything():
        row = measure(case, ROUNDS)
        (first, good), (times, times_good) = row.references, row.ratios
        yield (
            f"{row.name:39} {row.size:37} {first:9.2f} {good:10.2f} {row.ours:8.2f} "
            f"{times:8.2f} {times_good:9.2f}  {runs(row):7}  {verdict(row)}"
        )
        if times_good < 1:
            slower.append(row.name)
        if times_good < SLOWER:
            much_slower.append(row.name)
    yield f"Slower than the careful loop: {'; '.join(slower) or 'none'}."
    yield f"Less than {SLOWER} times as fast: {'; '.join(much_slower) or 'none'}."


def runs(row: Row) -> str:
    return ", ".join(map(str, row.runs))


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    with threads(number):
        print(where.line())
        for lines in (against_copies(), against_loops()):
            print()
            for line in lines:
                print(line, flush=True)
    print(
        "\nInputs are float32. Times are medians of so many runs, of each reference and of ours, "
        "after one to warm up."
    )
    print(where.load())


if __name__ == "__main__":
    main()
