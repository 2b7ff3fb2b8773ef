r"""What lies beyond the border of an image: the conventions of blurs, with the adjoint of each.

reflect    d c b | a b c d | c b a     mirrored without repeating the edge (scipy's `mirror`)
periodic   b c d | a b c d | a b c     as the discrete Fourier transform sees it (scipy's `wrap`)
zero       0 0 0 | a b c d | 0 0 0     black is -1, so this is grey (scipy's `constant`)
valid            | a b c d |           nothing: only what a kernel sees whole is measured
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .reflection import Border, fold, reflect, reflected_indices

__all__ = ["Boundary", "extend", "fold_back", "shown_indices"]

Boundary = Literal["reflect", "periodic", "zero", "valid"]


def shown_indices(n: int, border: Border, boundary: Boundary) -> NDArray[np.int64]:
    """Return which of n pixels stands at each place from -before to n - 1 + after; -1 where none does."""
    if boundary == "reflect":
        return reflected_indices(n, border)
    places = np.arange(-border[0], n + border[1])
    return places % n if boundary == "periodic" else np.where((places >= 0) & (places < n), places, -1)


def extend(x: Tensor, vertical: Border, horizontal: Border, boundary: Boundary) -> Tensor:
    """Return the images [B, C, H, W] with their border, differentiable."""
    if boundary == "reflect":
        return reflect(x, vertical, horizontal)
    if boundary == "periodic":
        rows, columns = (
            torch.from_numpy(shown_indices(n, border, boundary)).to(x.device)
            for n, border in zip(x.shape[-2:], (vertical, horizontal), strict=True)
        )
        return x.index_select(-2, rows).index_select(-1, columns)
    return F.pad(x, (*horizontal, *vertical)) if boundary == "zero" else x


def fold_back(y: Tensor, vertical: Border, horizontal: Border, boundary: Boundary) -> Tensor:
    """Return the adjoint of `extend`: what lies in the border is added to the pixels it shows."""
    if boundary == "reflect":
        return fold(y, vertical, horizontal)
    if boundary == "valid":
        return y
    for axis, (before, after) in ((-2, vertical), (-1, horizontal)):
        n = y.shape[axis] - before - after
        if boundary == "zero":
            y = y.narrow(axis, before, n)
        else:
            indices = torch.from_numpy(shown_indices(n, (before, after), boundary)).to(y.device)
            shape = list(y.shape)
            shape[axis] = n
            y = y.new_zeros(shape).index_add(axis, indices, y)
    return y
