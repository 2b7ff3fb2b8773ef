"""Which pixels of a picture are to be filled: what is white, or transparent, in a picture of the same size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daps_kit.arrays import LUMA, read_numbers
from daps_kit.errors import UserError

__all__ = ["read_holes"]


def read_holes(path: Path) -> NDArray[np.bool_]:
    """Return where a mask asks for a picture to be filled, [H, W]: where it is transparent, or else white.

    Args:
        path: a picture or an array. If parts of it are transparent these are meant, whatever the others show, so that a
            picture with holes is its own mask; otherwise what is brighter than half of white.

    Raises:
        UserError: the file cannot be read, nothing or all in it is to be filled, or it is white on transparent.
    """
    numbers = read_numbers(path, usual=("mask",), setting=None)
    values = numbers.values.astype(np.float64)
    white = numbers.white if numbers.white is not None else max(float(values.max(initial=0)), 1.0)
    grey = np.tensordot(LUMA, values, 1) if values.ndim == 3 and len(values) == 3 else values.squeeze()
    if grey.ndim != 2:
        raise UserError(f"mask {path} has the shape {list(values.shape)}; allowed: one plane, or a picture")
    bright: NDArray[np.bool_] = grey > white / 2
    if numbers.alpha is None or (numbers.alpha >= 0.5).all():
        holes = bright
    else:
        holes = numbers.alpha < 0.5
        if bright[~holes].all():
            raise UserError(f"mask {path} is white on transparent, and either may be meant; lay it on black")
    if not holes.any() or holes.all():
        what = "nothing" if not holes.any() else "everything"
        raise UserError(f"mask {path}: {what} is white or transparent, so {what} is to be filled")
    return holes
