r"""Image quality and its summary.

    PSNR(a, b) = -10 log10(mean (a - b)^2 + 1e-8)

    SSIM(a, b) = mean of (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a + s_b + c2))

on images in [0, 1], where m, s are means, variances and covariances under an 11 x 11 Gaussian window (sigma
1.5) moved over all places where it fits, c1 = 0.01^2, c2 = 0.03^2; images are first averaged over f x f
blocks, f = max(1, round(min(H, W) / 256)). So defined, both agree with the numbers that the field reports,
which are those of `piq`.

Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 2004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

__all__ = ["mean_and_error", "psnr", "ssim", "to_unit"]

_WINDOW, _SIGMA = 11, 1.5


def to_unit(x: Tensor) -> Tensor:
    """Return images of [-1, 1] on [0, 1], clipped; not-a-number stays."""
    return ((x + 1) / 2).clamp(0, 1)


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, [B]; 80 for equal images.

    Args:
        x, truth: images [B, C, H, W] in [-1, 1]; they are clipped.
    """
    error = (to_unit(x) - to_unit(truth)).square().flatten(1).mean(1)
    return -10 * torch.log10(error + 1e-8)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity, [B], at most 1; not-a-number for images smaller than the window.

    Args:
        x, truth: images [B, C, H, W] in [-1, 1]; they are clipped.
    """
    a, b = to_unit(x), to_unit(truth)
    block = max(1, round(min(x.shape[-2:]) / 256))
    if block > 1:
        a, b = avg_pool2d(a, block), avg_pool2d(b, block)
    if min(a.shape[-2:]) < _WINDOW:
        return torch.full((len(x),), math.nan, device=x.device)
    at = (torch.arange(_WINDOW, dtype=a.dtype, device=a.device) - _WINDOW // 2).square()
    window = torch.exp(-(at[:, None] + at) / (2 * _SIGMA**2))
    window = (window / window.sum())[None, None]

    # A separable window would be faster and differ by 1e-5 where pictures are flat: single precision cancels.
    def local_mean(image: Tensor) -> Tensor:
        return conv2d(image.flatten(0, 1)[:, None], window).reshape(*image.shape[:2], -1)

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(1)


def mean_and_error(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Return the mean of the values that are known, its standard error and their count; None without any.

    The standard error is the sample standard deviation over the root of the count; None for a single value.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / max(1, len(known) - 1))
    error = spread / math.sqrt(len(known)) if len(known) > 1 else None
    return {"mean": mean, "standard_error": error, "images": len(known)}
