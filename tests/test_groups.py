"""Samples about one video: drawn together, counted once, and known by their group from the task to
the statistics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenprune.errors import TaskError
from tokenprune.results.statistics import FEW, Resamples
from tokenprune.tasks.files import Files

FAMILY = st.lists(st.sampled_from("abc"), min_size=1, max_size=40)


def stratified(families: list[str], scores: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Efron's bootstrap within families, written out: the macro average of every resampling."""
    generator, found = np.random.default_rng(seed), []
    names = sorted(set(families))
    for name in names:
        inside = np.flatnonzero(np.array(families) == name)
        draws = max(1, len(inside) - 1)
        counts = generator.multinomial(draws, np.full(len(inside), 1 / len(inside)), size=number)
        found.append(counts @ scores[inside] / draws)
    return np.mean(found, axis=0)


@given(FAMILY, st.integers(0, 9), st.booleans())
def test_groups_of_one_are_the_stratified_bootstrap(
    families: list[str], seed: int, named: bool
) -> None:
    scores, other = np.random.default_rng(seed).random((2, len(families)))
    groups = [f"video {place}" if named or place % 2 else None for place in range(len(families))]
    grouped, plain = Resamples(families, 60, seed, groups), Resamples(families, 60, seed)
    assert (grouped.draws(scores) == plain.draws(scores)).all(), "to the last bit"
    assert grouped.estimate(scores) == plain.estimate(scores) and grouped.fewest == plain.fewest
    assert grouped.paired(scores, other) == plain.paired(scores, other)
    assert plain.draws(scores) == pytest.approx(stratified(families, scores, 60, seed), abs=1e-11)


@given(st.integers(FEW, 12), st.integers(2, 4), st.integers(0, 9))
def test_copies_of_a_question_tell_nothing_new(videos: int, copies: int, seed: int) -> None:
    """Each question asked several times about its video: the intervals are those of one question
    each.
    """
    scores = np.random.default_rng(seed).random(videos)
    families = ["ab"[place % 2] if videos >= 2 * FEW else "a" for place in range(videos)]
    many = Resamples(families * copies, 80, seed, [f"v{place}" for place in range(videos)] * copies)
    once = Resamples(families, 80, seed)
    assert many.draws(np.tile(scores, copies)) == pytest.approx(once.draws(scores), abs=1e-10)
    assert many.fewest == once.fewest and not many.independent


def test_intervals_over_videos_cover_and_intervals_over_questions_do_not() -> None:
    """Two families, four questions about each of 30 videos, two of either; what a video is like,
    all four share.
    """
    draw, trials = np.random.default_rng(0), 250
    covered = {"videos": 0, "questions": 0}
    families, videos = ["a", "b"] * 60, [f"v{place // 4}" for place in range(120)]
    for trial in range(trials):
        shared = np.repeat(draw.normal(0, 0.3, 30), 4)
        scores = 0.5 + shared + draw.normal(0, 0.1, 120) + np.tile([0.0, 0.2], 60)
        for name, groups in (("videos", videos), ("questions", None)):
            interval = Resamples(families, 400, trial, groups).estimate(scores).interval
            assert interval is not None
            covered[name] += interval[0] <= 0.6 <= interval[1]
    assert 0.90 <= covered["videos"] / trials <= 0.98
    assert covered["questions"] / trials < 0.75


def test_families_that_share_a_video_are_drawn_together() -> None:
    """`a` and `b` share v0, `c` has its own videos; a draw that misses a family does not count."""
    families = ["a"] * 6 + ["b"] * 6 + ["c"] * 6
    groups = [
        *(f"v{n}" for n in range(6)),
        "v0",
        *(f"v{n}" for n in range(6, 11)),
        *(f"v{n}" for n in range(11, 17)),
    ]
    drawn = Resamples(families, 20_000, 0, groups)
    assert not drawn.independent and drawn.fewest == 6
    ones = drawn.draws(np.ones(18))
    assert set(ones) == {1.0}, "a family's mean is over what was drawn of it, however much that is"
    missed = 2 * (1 - 6 / 11) ** 10
    assert len(ones) / 20_000 == pytest.approx(1 - missed, abs=0.002)


def test_few_counts_videos() -> None:
    """Forty questions about four videos are four things that happened."""
    scores = np.random.default_rng(0).integers(0, 2, 40).astype(float)
    about = [f"v{place % 4}" for place in range(40)]
    four = Resamples(["a"] * 40, 200, groups=about)
    assert four.fewest == 4 and four.estimate(scores).interval is None, (
        "nor Wilson's, which takes them as independent"
    )
    paired = four.paired(scores, 1 - scores)
    assert (paired.interval, paired.p, paired.sign) == (None, None, None)
    eight = Resamples(["a"] * 40, 200, groups=[f"v{place % 8}" for place in range(40)])
    assert (
        eight.estimate(scores).interval is not None
        and eight.paired(scores, 1 - scores).interval is not None
    )
    alike = np.tile([0.0, 1.0], 20)
    pairs = [f"v{place // 2}" for place in range(40)]
    assert Resamples(["a"] * 40, 200, groups=pairs).estimate(alike).interval is None, (
        "videos that do not differ"
    )


def test_mcnemar_takes_samples_as_independent() -> None:
    scores = np.tile([0.0, 1.0, 1.0], 10)
    alone = Resamples(["a"] * 30, 200).paired(scores, scores[::-1].copy())
    about = Resamples(["a"] * 30, 200, groups=[f"v{place // 2}" for place in range(30)])
    assert alone.mcnemar_p is not None
    assert about.paired(scores, scores[::-1].copy()).mcnemar_p is None


def annotated(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "annotations.json"
    file.write_text(
        json.dumps(
            [
                {"id": f"s{n}", "question": "What?", "answer": "red", **line}
                for n, line in enumerate(lines)
            ]
        )
    )
    return file


def test_questions_about_one_file_are_a_group(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).touch()
    (tmp_path / "link.mp4").symlink_to("videos/a.mp4")
    named = {"video": "videos/b.mp4", "group": "film 7"}
    written = (
        "videos/a.mp4",
        "./videos/../videos/a.mp4",
        "link.mp4",
        str(tmp_path / "videos/a.mp4"),
        "videos/b.mp4",
    )
    task = Files(annotated(tmp_path, *({"video": path} for path in written), named), frames=8)
    groups = [task.label(index).group for index in range(len(task))]
    assert groups == ["videos/a.mp4"] * 4 + ["videos/b.mp4", "film 7"]
    other = Files(
        annotated(tmp_path, *({"video": path} for path in written), {**named, "group": None}),
        frames=8,
    )
    assert other.label(5).group == "videos/b.mp4" and other.fingerprint() != task.fingerprint()
    with pytest.raises(TaskError, match="sample 1: the field 'group' has to be text, not 7"):
        Files(annotated(tmp_path, {**named, "group": 7}), frames=8)
