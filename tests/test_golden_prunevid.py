"""PruneVid's released functions on the golden inputs, and the paper's selection."""

from __future__ import annotations

import pytest
import torch
from arbitrary import video
from golden_cases import array, close, named
from torch import Tensor

from tokenprune.clustering import density_peaks
from tokenprune.sequence import Reading
from tokenprune.strategies.prunevid import PruneVid, best_of_groups
from tokenprune.tokens import TEXT, SequenceView
from tokenprune.windows import refined


def labels_of(lengths: list[list[int]]) -> list[int]:
    return [label for label, length in lengths for _ in range(length)]


@pytest.mark.parametrize(("file", "case"), named(r"prunevid(\d+)_settings", of="prunevid"))
def test_merging(file: str, case: str) -> None:
    name = f"prunevid{case}"
    features = array(file, f"{name}_features")
    frames, cells, _ = features.shape
    similarity, scenes, clusters = array(file, f"{name}_settings").tolist()
    strategy = PruneVid(similarity=similarity, scenes=scenes, clusters=clusters, follow="released")
    kept = strategy.condense(video(features.flatten(0, 1), cells))
    assert kept.frame.tolist() == array(file, f"{name}_frame").tolist()
    assert kept.slot.tolist() == array(file, f"{name}_slot").tolist()
    close(kept.features, array(file, f"{name}_out"), atol=1e-4)

    number = torch.tensor([max(1, int(frames * scenes))])
    mean, valid = features.mean(1).unsqueeze(0), torch.ones(1, frames, dtype=torch.bool)
    label = density_peaks(mean, valid, number, 7).member[0]
    assert label.tolist() == array(file, f"{name}_label").tolist()
    windows = refined(label.tolist())
    assert labels_of(windows) == array(file, f"{name}_refined").tolist()
    lengths = array(file, f"{name}_windows")
    assert [length for _, length in windows] == lengths.tolist()

    # a scene's static tokens stand before those of its first frame
    first = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    members = kept.members
    assert members is not None
    sources = torch.stack(
        [
            torch.bincount(members[f * cells : (f + 1) * cells], minlength=len(kept)) > 0
            for f in range(frames)
        ]
    )
    static, dynamic = (array(file, f"{name}_{part}").tolist() for part in ("static", "dynamic"))
    for scene in range(len(lengths)):
        inside = sources[first[scene] : first[scene + 1]]
        own = inside.any(0)
        from_all = inside.all(0)
        assert int(from_all.sum()) == static[scene]
        assert int((own & ~from_all).sum()) == dynamic[scene]


@pytest.mark.parametrize(("file", "case"), named(r"refine(\d+)_labels", of="prunevid"))
def test_scenes(file: str, case: str) -> None:
    scenes = refined(array(file, f"refine{case}_labels").tolist())
    assert labels_of(scenes) == array(file, f"refine{case}_refined").tolist()
    assert [length for _, length in scenes] == array(file, f"refine{case}_lengths").tolist()


class Given(Reading):
    """Attention that is given as [heads, questions, visual], of the rows behind the video."""

    hidden = normed = keys = inputs = property(lambda self: None)  # type: ignore[assignment]

    def __init__(self, attention: Tensor, before: int) -> None:
        self.attention, self.before = attention, before

    def attend(self, rows: Tensor, heads: str = "mean") -> Tensor:
        _, questions, visual = self.attention.shape
        assert rows.tolist() == [self.before + visual + row for row in range(questions)]
        assert heads == "max"
        largest = self.attention.amax((0, 1))
        return torch.cat([torch.zeros(self.before), largest, torch.ones(questions)])

    def last(self) -> Tensor:
        raise AssertionError


@pytest.mark.parametrize(("file", "case"), named(r"pruneselect(\d+)_keep", of="prunevid"))
def test_selection(file: str, case: str) -> None:
    name = f"pruneselect{case}"
    attention, share = array(file, f"{name}_attention"), float(array(file, f"{name}_share"))
    static, dynamic, windows = (
        array(file, f"{name}_{part}").tolist() for part in ("static", "dynamic", "windows")
    )
    counts = []
    for s, d, frames in zip(static, dynamic, windows, strict=True):
        counts += [s, *[d // frames] * frames]
    released = best_of_groups(attention.amax((0, 1)), torch.tensor(counts), share)
    assert released.nonzero().flatten().tolist() == array(file, f"{name}_keep").tolist()

    frame = torch.full((3 + attention.shape[2] + attention.shape[1],), TEXT)
    frame[3 : 3 + attention.shape[2]] = 0
    view = SequenceView(frame, torch.arange(len(frame)), reading=Given(attention, 3))
    strategy = PruneVid(keep=share)
    kept = strategy.prune(view, strategy.quota(view))
    assert isinstance(kept, Tensor)
    assert bool(kept[frame == TEXT].all())
    assert (kept[frame == 0].nonzero().flatten()).tolist() == array(file, f"{name}_paper").tolist()
