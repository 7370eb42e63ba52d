"""Column means of attention: blockwise, yet those of the whole map."""

from __future__ import annotations

import pytest
import torch

from tokenprune.bench import memory
from tokenprune.runtime import attention

SAMPLES, HEADS, ROWS, WIDTH = 3, 4, 50, 8


@pytest.mark.parametrize("block", [1, 7 * ROWS, ROWS**2, 3 * ROWS**2, 1 << 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_column_means_do_not_depend_on_the_blocks(
    block: int, dtype: torch.dtype, monkeypatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK_OF_CPU", block)
    query, key = torch.randn(
        2, SAMPLES, HEADS, ROWS, WIDTH, generator=torch.Generator().manual_seed(0)
    ).to(dtype)
    whole = (query.float() @ key.float().mT * WIDTH**-0.5).softmax(-1).mean(dim=(1, 2))
    found = attention.received(query, key, WIDTH**-0.5)
    assert found.dtype == torch.float32
    assert torch.allclose(found, whole, atol=1e-7)
    assert torch.allclose(found.sum(1), torch.ones(SAMPLES), atol=1e-5), (
        "every query gives away one"
    )


def test_no_whole_map_is_held(monkeypatch) -> None:
    monkeypatch.setattr(attention, "BLOCK_OF_CPU", 16 * ROWS)
    query, key = torch.randn(2, SAMPLES, HEADS, ROWS, WIDTH)
    maps = SAMPLES * HEADS * ROWS * ROWS * 4
    assert memory.allocated(lambda: attention.received(query, key, 1.0)) < maps / 4
