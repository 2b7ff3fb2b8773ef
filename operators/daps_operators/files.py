"""Masks and kernels of the user's own: numbers in a .npy file, grey values in a .png."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daps_kit.errors import UserError

__all__ = ["read_array"]


def read_array(path: Path) -> NDArray[np.float64]:
    """Return the array of a .npy file, or the grey values [H, W] of a .png (colours are converted to grey).

    Raises:
        UserError: the file cannot be read, or it holds something other than finite real numbers.
    """
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as image:
                grey = image if image.mode in ("1", "L", "I", "I;16") else image.convert("L")
                values = np.asarray(grey)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise UserError(f"{path} does not hold an array of real numbers")
    if not values.size or not np.isfinite(values).all():
        raise UserError(f"{path} is empty or has values that are not finite; allowed: finite numbers")
    return values.astype(np.float64)
