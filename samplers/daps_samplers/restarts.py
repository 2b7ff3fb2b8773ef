"""Several starts, of which the best goes on, sample by sample: for multimodal operators."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from daps_kit.contracts import Step

__all__ = ["Levels", "best"]

Levels = Generator[Step, None, tuple[Tensor, Tensor]]
"""Yields the Steps of some levels; returns the last x0y, [B, ...], and which samples have failed, [B]."""


def best(starts: int, start: Callable[[], Levels], residual: Callable[[Tensor], Tensor]) -> Levels:
    """Yield the Steps of all starts; return of each sample the x0y with the least residual.

    Args:
        starts: how many.
        start: passes the highest levels from noise of its own.
        residual: of x0y, [B]. A sample has failed where no start has a finite one.
    """
    ends, residuals = [], []
    for _ in range(starts):
        x0y, failed = yield from start()
        ends.append(x0y)
        residuals.append(residual(x0y).masked_fill(failed, torch.inf).nan_to_num(torch.inf))
    least, chosen = torch.stack(residuals).min(0)
    return torch.stack(ends)[chosen, torch.arange(len(chosen), device=chosen.device)], least.isinf()
