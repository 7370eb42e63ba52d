"""Density peaks beside the released ones; several strategies share them."""

from __future__ import annotations

import pytest
import torch
from golden_cases import FILES, array, named

from tokenprune.clustering import density_peaks


@pytest.mark.parametrize(("file", "case"), named(r"density(\d+)_features"))
def test_density_peaks(file: str, case: str) -> None:
    def of(name: str) -> torch.Tensor:
        return array(file, f"density{case}_{name}")

    features = of("features").unsqueeze(0)
    valid = torch.ones(features.shape[:2], dtype=torch.bool)
    found = density_peaks(features, valid, of("clusters").view(1), int(of("neighbours")))
    assert torch.equal(found.centre[0], of("centre"))
    assert torch.equal(found.member[0], of("member"))


@pytest.mark.parametrize(
    "file", sorted({case.values[0] for case in named(r"density(\d+)_features")})
)
def test_density_peaks_of_a_padded_batch(file: str) -> None:
    """All cases of a file as groups of one call, of different sizes and numbers."""
    cases = sorted(name.partition("_")[0] for name in FILES[file] if name.endswith("_features"))
    features = [array(file, f"{case}_features") for case in cases]
    most, width = max(map(len, features)), max(part.shape[1] for part in features)
    same = [part for part in features if part.shape[1] == width]
    names = [case for case, part in zip(cases, features, strict=True) if part.shape[1] == width]
    padded = torch.full((len(same), most, width), torch.nan)
    valid = torch.zeros(len(same), most, dtype=torch.bool)
    for row, part in enumerate(same):
        padded[row, : len(part)], valid[row, : len(part)] = part, True
    centres = torch.stack([array(file, f"{case}_clusters") for case in names])
    neighbours = torch.stack([array(file, f"{case}_neighbours") for case in names])
    found = density_peaks(padded, valid, centres, neighbours)
    for row, case in enumerate(names):
        assert torch.equal(found.centre[row][found.real[row]], array(file, f"{case}_centre"))
        assert torch.equal(found.member[row][valid[row]], array(file, f"{case}_member"))
        assert (found.member[row][~valid[row]] == -1).all()
