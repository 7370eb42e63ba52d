"""Tokens that take in others, which go: a pure part of methods that merge them.

Axes: `i` tokens, `d` width, `c` tokens that stay.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import merging
from tokenprune.precision import exact


@exact
def absorbed(
    features: Float[Tensor, "i d"], centre: Int[Tensor, "c"], halving: bool = False
) -> Float[Tensor, "c d"]:
    """What tokens `centre` become, each the mean of itself and of the others it is nearest to.

    Nearest by cosine; ties: the centre that is listed first. `halving`: the others are averaged
    with it one after the other, so that later ones weigh more.
    """
    features, own = features.float(), torch.arange(len(centre), device=centre.device)
    unit = functional.normalize(features.index_select(0, centre), dim=-1)
    # a token's own norm does not change which centre is nearest
    nearest = (features @ unit.mT).argmax(dim=-1).index_copy(0, centre, own)
    if not halving:
        return merging.means(features, nearest, own)
    first = (2 * nearest + 1).index_copy(0, centre, 2 * own)  # a centre before those that join it
    joined, token = first.sort(stable=True)
    starts = torch.searchsorted(joined, 2 * own)
    size = functional.pad(starts, (0, 1), value=len(joined)).diff()
    of = joined // 2
    turn = torch.arange(len(joined), device=of.device) - starts[of]
    halvings = size[of] - turn - (turn == 0).long()
    weight = 0.5 ** halvings.float()
    return functional.embedding_bag(token, features, starts, mode="sum", per_sample_weights=weight)
