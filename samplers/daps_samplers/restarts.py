"""The starts of multimodal operators: those that explain the measurement best go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Draw", "best"]


class Draw(NamedTuple):
    """A draw of a level.

    Attributes:
        x_t, x0y: the state that it came from, and the draw, [B, ...].
        failed: which samples have failed, [B].
    """

    x_t: Tensor
    x0y: Tensor
    failed: Tensor


def best(draws: Sequence[Draw], count: int, residual: Callable[[Tensor], Tensor]) -> list[Draw]:
    """Return of each sample those draws whose residuals are smallest, the best first; all where there are no more.

    Args:
        draws: of a level.
        count: how many to keep.
        residual: of x0y, [B]; that of a sample that has failed is the largest.
    """
    if len(draws) <= count:
        return list(draws)
    residuals = [
        residual(draw.x0y).masked_fill(draw.failed, torch.inf).nan_to_num(torch.inf) for draw in draws
    ]
    order = torch.stack(residuals).argsort(dim=0, stable=True)[:count]
    of_sample = torch.arange(order.shape[1], device=order.device)
    parts = [torch.stack(part) for part in zip(*draws, strict=True)]
    return [Draw(*(part[place, of_sample] for part in parts)) for place in order]
