r"""Down-sampling with an interpolation kernel stretched to the coarse grid.

The coarse pixel i has its centre at u_i = s (i + 1/2) - 1/2 + c on the fine grid (pixels counted from 0), s
the scale factor. Its weights on the fine pixels j are

    h((u_i - j) / s),    h the interpolation kernel,

(h(u_i - j) without antialiasing), normalised to sum 1. At the border the image is mirrored with its edge
pixel repeated (c b a | a b c | c b a). The coarse image has m = ceil(n / s) pixels. Where s does not divide n, there
are two conventions: the shift c = (n - s m) / 2 puts both grids on one centre, so that a mirrored image gives a
mirrored measurement (`centred`), and c = 0 lets both begin at one corner, as MATLAB's imresize(x, 1 / s) does
(`corner`). A phase is added to c.

Sources: Keys, "Cubic convolution interpolation for digital image processing", 1981; Duchon, "Lanczos filtering
in one and two dimensions", 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from daps_kit.contracts import Noise, Shape
from daps_kit.separable import SeparableOperator

__all__ = ["KERNELS", "DownSampling", "resize_matrix"]

Array = NDArray[np.float64]
Grid = Literal["centred", "corner"]


def cubic(t: Array) -> Array:
    """Return Keys' cubic kernel with a = -1/2."""
    t = np.abs(t)
    near: Array = (1.5 * t - 2.5) * t**2 + 1
    far: Array = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, near, np.where(t <= 2, far, 0.0))


def linear(t: Array) -> Array:
    """Return the triangle of width 2."""
    return np.where(np.abs(t) < 1, 1 - np.abs(t), 0.0)


def box(t: Array) -> Array:
    """Return the indicator of [-1/2, 1/2)."""
    return ((t >= -0.5) & (t < 0.5)).astype(np.float64)


def lanczos2(t: Array) -> Array:
    """Return the sinc windowed by its own main lobe stretched to |t| < 2."""
    return np.where(np.abs(t) < 2, np.sinc(t) * np.sinc(t / 2), 0.0)


def lanczos3(t: Array) -> Array:
    """Return the sinc windowed by its own main lobe stretched to |t| < 3."""
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)


KERNELS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "cubic": (cubic, 4.0),
    "lanczos2": (lanczos2, 4.0),
    "lanczos3": (lanczos3, 6.0),
    "box": (box, 1.0),
    "linear": (linear, 2.0),
}
"""Interpolation kernels and the widths of their supports."""


def resize_matrix(
    n: int,
    scale_factor: float,
    kernel: str = "cubic",
    antialiasing: bool = True,
    grid: Grid = "centred",
    phase: float = 0.0,
) -> Array:
    """Return the matrix [ceil(n / scale_factor), n] of the weights h, each row of sum 1."""
    h, width = KERNELS[kernel]
    m = max(1, math.ceil(n / scale_factor - 1e-9))
    stretch = scale_factor if antialiasing else 1.0
    shift = phase + ((n - scale_factor * m) / 2 if grid == "centred" else 0.0)
    centres = scale_factor * (np.arange(m) + 0.5) - 0.5 + shift
    reach = math.ceil(width * stretch / 2) + 1
    places = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = h((centres[:, None] - places) / stretch)
    weights /= weights.sum(1, keepdims=True)
    mirrored = places % (2 * n)
    mirrored = np.minimum(mirrored, 2 * n - 1 - mirrored)
    matrix = np.zeros((m, n))
    np.add.at(matrix, (np.arange(m)[:, None], mirrored), weights)
    return matrix


class DownSampling(SeparableOperator):
    """Down-sampling by a factor, y [B, C, ceil(H / s), ceil(W / s)].

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        scale_factor: s, above 1, not necessarily whole.
        kernel: a name in `KERNELS`.
        antialiasing: whether the kernel is stretched to the coarse grid.
        grid: where the grids meet if s does not divide H and W: at their centres or at the upper left corner.
        phase: by how far the coarse grid lies below and to the right of that, in pixels of the image.
    """

    def __init__(
        self,
        shape: Shape,
        noise: Noise,
        scale_factor: float,
        kernel: str = "cubic",
        antialiasing: bool = True,
        grid: Grid = "centred",
        phase: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        vertical, horizontal = (
            resize_matrix(n, scale_factor, kernel, antialiasing, grid, p)
            for n, p in zip(shape[1:], phase, strict=True)
        )
        super().__init__(shape, noise, vertical, horizontal)
