"""Scores of a task as they come in, per category, in a torchmetrics metric that adds up across
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tokenprune.results.statistics import FEW


class CategoryScores(Metric):
    """Mean score of each category met so far, and their macro average.

    All `categories` that may come are named beforehand, so that every process holds the same sums.
    """

    higher_is_better = True
    full_state_update = False
    total: Tensor
    square: Tensor
    count: Tensor

    def __init__(
        self, categories: Sequence[str], dtype: torch.dtype = torch.float64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.categories = list(categories)
        self.add_state(
            "total", torch.zeros(len(self.categories), dtype=dtype), dist_reduce_fx="sum"
        )
        self.add_state(
            "square", torch.zeros(len(self.categories), dtype=dtype), dist_reduce_fx="sum"
        )
        self.add_state(
            "count", torch.zeros(len(self.categories), dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, category: str, score: float) -> None:
        """One sample's score."""
        if category not in self.categories:
            raise ValueError(
                f"category {category!r} is none of the task's: {', '.join(self.categories)}"
            )
        here = torch.zeros_like(self.count)
        here[self.categories.index(category)] = 1
        self.total = self.total + here.to(self.total.dtype) * score
        self.square = self.square + here.to(self.total.dtype) * score**2
        self.count = self.count + here

    def compute(self) -> dict[str, Any]:
        """`{"categories": {category: mean}, "score": mean of these}`, where there were samples."""
        sums = zip(self.categories, self.total.tolist(), self.count.tolist(), strict=True)
        means = {category: total / count for category, total, count in sums if count}
        score = sum(means.values()) / len(means) if means else float("nan")
        return {"categories": means, "score": score}

    def standard_error(self) -> float:
        """Of the macro average, from this process's samples as if independent; nan below five of a
        category.
        """
        count = self.count[self.count > 0]
        if not len(count) or bool((count < FEW).any()):
            return float("nan")
        total, square = self.total[self.count > 0], self.square[self.count > 0]
        variance = (square / count - (total / count) ** 2).clamp(min=0) / (count - 1)
        return float(variance.sum().sqrt()) / len(count)
