r"""How a kernel k scales waves: its transfer function, K(f, g) = sum_{a, b} k(a, b) exp(i (f a + g b))."""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from daps_kit.contracts import Transfer

from .borders import Boundary

__all__ = ["fast_length", "gains", "transfer"]


def fast_length(n: int) -> int:
    """Return a length of at least n with a fast real transform: 16 times a product of 2, 3 and 5.

    Even lengths are up to twice as fast here as the nearest odd ones: 1152 takes half the time of 1125.
    """
    return 16 * int(next_fast_len(-(-n // 16), real=True))


def gains(kernel: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return |K|^2, [1 or B, 1, m, n], in double precision.

    Args:
        kernel: [1 or B, 1, h, w].
        down, across: f and g, [m] and [n], radians a pixel.
    """
    waves = []
    for frequencies, taps in zip((down, across), kernel.shape[-2:], strict=True):
        phase = torch.outer(frequencies.double(), torch.arange(taps).double())
        waves.append(torch.polar(torch.ones_like(phase), phase))
    rows, columns = waves
    return (rows @ kernel.to("cpu").to(torch.complex128) @ columns.T).abs().square()


def transfer(kernel: Tensor, size: tuple[int, int], boundary: Boundary) -> Transfer | None:
    """Return how the blur with a kernel scales waves.

    None where it is better described by the cosine functions of what is measured: where the border is left out, and
    where it is mirrored and the kernel its own mirror image along both axes.

    Args:
        kernel: [1 or B, 1, h, w].
        size: (H, W) of the images.
        boundary: what lies beyond the border.
    """
    even = all(torch.allclose(kernel, kernel.flip(axis)) for axis in (-2, -1))
    if boundary == "valid" or (boundary == "reflect" and even):
        return None
    (height, width), (h, w) = size, kernel.shape[-2:]
    if boundary != "periodic":
        height, width = fast_length(height + h - 1), fast_length(width + w - 1)
    down, across = (
        2 * torch.pi / n * torch.arange(count, dtype=torch.float64)
        for n, count in ((height, height), (width, width // 2 + 1))
    )
    return Transfer(gains(kernel, down, across), (height, width))
