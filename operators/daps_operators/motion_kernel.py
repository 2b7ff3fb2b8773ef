r"""Kernels of camera shake: a random path of the sensor, drawn as a smooth curve.

With D the diagonal of the kernel and s in [0, 1] the intensity, the path is a walk in the complex plane of
steps r_k exp(i a_k):

    total length  T    = 0.75 D (U[0, 1] + U[0, s^2])         a strong shake is up to twice as long
    step length   r_k  ~ (1.1 - s) D Beta(1, 30), r_k < T     until the steps add up to T
    widest turn   A    ~ U[0, s pi]
    reversal      p    ~ Beta(2, 20)                          probability that the path changes sides
    heading       a_0  ~ U[-A, A],  |a_k| ~ Triangular(0, s A, A + 0.1),
                  sign(a_k) = -sign(a_{k-1}) with probability p, else sign(a_{k-1})

The path is then turned by an angle ~ U[0, pi] with its centre of mass in the middle of the kernel. s = 0 is
a straight line of few long steps, s = 1 a bent path of many short ones. It is drawn at twice the size,
blurred by a Gaussian of 1 % of the diagonal, and halved with a Lanczos filter.

Source: the random-walk model of L. Borodenko's `motionblur` (2019), draw by draw.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from daps_kit.errors import UserError

__all__ = ["motion_kernel", "shake_path"]

Rng = np.random.Generator | np.random.RandomState

OVERSAMPLING = 2
"""How many pixels of the canvas, on each axis, a pixel of the kernel has."""


def shake_path(diagonal: float, intensity: float, rng: Rng) -> NDArray[np.complex128]:
    """Draw the path of a camera shake, x + iy, with its centre of mass at 0.

    Args:
        diagonal: length that the path scales with, in pixels.
        intensity: from 0 (straight) to 1 (strongly bent).
        rng: source of the random numbers.
    """
    length = 0.75 * diagonal * (rng.uniform() + rng.uniform(0.0, intensity**2))
    steps: list[float] = []
    while sum(steps) < length:
        step = (1.1 - intensity) * diagonal * rng.beta(1.0, 30.0)
        if step < length:
            steps.append(step)

    widest = rng.uniform(0.0, intensity * math.pi)
    reversal = rng.beta(2.0, 20.0)
    headings = [rng.uniform(-widest, widest)]
    for _ in steps[1:]:
        turn = rng.triangular(0.0, intensity * widest, widest + 0.1)
        side = -1.0 if rng.uniform() < reversal else 1.0
        headings.append(side * np.sign(headings[-1]) * turn)

    path = np.cumsum(np.asarray(steps) * np.exp(1j * np.asarray(headings)))
    turned: NDArray[np.complex128] = (path - path.mean()) * np.exp(1j * rng.uniform(0.0, math.pi))
    return turned


def motion_kernel(size: int | tuple[int, int], intensity: float, rng: Rng) -> NDArray[np.float64]:
    """Draw the blur kernel of a camera shake.

    Args:
        size: of the kernel in pixels, a number or (height, width); at least 1.
        intensity: from 0 (straight motion) to 1 (strongly bent motion).
        rng: source of the random numbers; a `RandomState` seeded alike gives the published kernels.

    Returns:
        the kernel [height, width], non-negative, with sum 1.

    Raises:
        UserError: the size is below 1 or the intensity is not in [0, 1].
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UserError(f"a motion kernel needs a size of at least 1 pixel, got {height} x {width}")
    if not 0 <= intensity <= 1:
        raise UserError(f"the intensity of a motion kernel lies between 0 and 1, got {intensity}")

    canvas_width, canvas_height = OVERSAMPLING * width, OVERSAMPLING * height
    diagonal = math.hypot(canvas_width, canvas_height)
    path = shake_path(diagonal, intensity, rng) + (canvas_width + 1j * canvas_height) / 2
    canvas = Image.new("L", (canvas_width, canvas_height))
    line_width = max(1, int(diagonal / 150))  # below 54 pixels the rule gives 0, which draws nothing
    ImageDraw.Draw(canvas).line([(point.real, point.imag) for point in path], fill=255, width=line_width)
    canvas = canvas.filter(ImageFilter.GaussianBlur(radius=int(diagonal / 100)))
    kernel = np.asarray(canvas.resize((width, height), resample=Image.Resampling.LANCZOS), dtype=np.float64)
    if not kernel.any():  # a path that left the canvas, or shrank to nothing between its pixels: no motion
        kernel = np.zeros((height, width))
        kernel[height // 2, width // 2] = 1.0
    normalised: NDArray[np.float64] = kernel / kernel.sum()
    return normalised
