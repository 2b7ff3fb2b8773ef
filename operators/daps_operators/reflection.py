"""Reflection at the border of an image, without repeating the edge (d c b | a b c d | c b a).

A border wider than the image is reflected again and again, as if the image stood between two mirrors: the
extension has the period 2 (n - 1).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Border", "fold", "reflect", "reflected_indices"]

Border = tuple[int, int]
"""How many pixels are added before and after an axis."""


def reflected_indices(n: int, border: Border) -> NDArray[np.int64]:
    """Return which of n pixels stands at each place from -before to n - 1 + after."""
    period = max(2 * (n - 1), 1)
    places = np.arange(-border[0], n + border[1]) % period
    return np.minimum(places, period - places) if n > 1 else np.zeros_like(places)


def reflect(x: Tensor, vertical: Border, horizontal: Border) -> Tensor:
    """Return the images [B, C, H, W] with a reflected border, differentiable."""
    height, width = x.shape[-2:]
    if max(vertical) < height and max(horizontal) < width:
        return F.pad(x, (*horizontal, *vertical), mode="reflect")
    rows = torch.from_numpy(reflected_indices(height, vertical)).to(x.device)
    columns = torch.from_numpy(reflected_indices(width, horizontal)).to(x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def fold(y: Tensor, vertical: Border, horizontal: Border) -> Tensor:
    """Return the adjoint of `reflect`: what lies in the border is added to the pixels it shows."""
    return _fold_last(_fold_last(y.mT, vertical).mT, horizontal)


def _fold_last(y: Tensor, border: Border) -> Tensor:
    before, after = border
    n = y.shape[-1] - before - after
    if max(border) >= n:
        indices = torch.from_numpy(reflected_indices(n, border)).to(y.device)
        return y.new_zeros((*y.shape[:-1], n)).index_add(-1, indices, y)
    folded = y[..., before : before + n].clone()
    folded[..., 1 : before + 1] += y[..., :before].flip(-1)
    folded[..., n - 1 - after : n - 1] += y[..., before + n :].flip(-1)
    return folded
