"""Populations of particles: one for each sample of a batch, resampled by their weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["chosen", "each", "systematic"]


def systematic(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Return which particle each place takes, [B, K]: systematic resampling, of least variance.

    Place i takes the particle whose stretch of the cumulated weights holds (i + u) / K. Weights that are NaN count as
    none; where all are, everybody stays.

    Args:
        log_weights: [B, K], up to a constant for each sample.
        uniform: u in [0, 1), [B].

    Source: Douc, Cappe and Moulines, "Comparison of resampling schemes for particle filtering", ISPA 2005.
    """
    count = log_weights.shape[1]
    weights = torch.softmax(log_weights.double().nan_to_num(nan=-torch.inf, posinf=1e300), 1).nan_to_num(1.0)
    ends = weights.cumsum(1)
    places = (torch.arange(count, dtype=ends.dtype, device=ends.device) + uniform[:, None].to(ends)) / count
    return torch.searchsorted(ends / ends[:, -1:], places, right=True).clamp_max(count - 1)


def chosen(x: Tensor, index: Tensor) -> Tensor:
    """Return the particles of an index [B, K], of x [B, K, ...]."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a function [B, ...] of all particles of a sample in turn, x [B, K, ...]."""
    return torch.stack([function(particle) for particle in x.unbind(1)], 1)
