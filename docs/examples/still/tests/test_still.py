import pytest
import torch
from still_frames.still import Still

from tokenprune import VisualTokens, build
from tokenprune.testing import check_strategy


@pytest.mark.parametrize("alike", [0.3, 0.8, 1.0])
def test_all_laws(alike):
    check_strategy(Still(alike=alike))


def test_it_is_installed():
    assert build("still", {"still.alike": 0.5}).strategies == (Still(alike=0.5),)


def test_a_run_is_its_mean():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    frame, slot = torch.arange(4), torch.zeros(4, dtype=torch.long)
    left = Still().condense(VisualTokens(features, None, None, frame, slot, frames=4, cells=1))
    assert left.features.tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert left.frame.tolist() == [0, 2]
    assert left.members.tolist() == [0, 0, 1, 1]
