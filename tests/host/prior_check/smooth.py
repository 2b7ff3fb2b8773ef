"""Images whose spectrum falls by a power law, as that of photographs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def smooth(count: int, seed: int, shape: tuple[int, int, int] = (3, 16, 16), alpha: float = 3.0) -> Tensor:
    """Return images whose cosine transform has independent entries of variance |k|^-alpha, in [-1, 1] or so."""
    from scipy.fft import idctn

    channels, height, width = shape
    radius = max(height, width) * np.hypot(np.arange(height)[:, None] / height, np.arange(width) / width)
    radius[0, 0] = 0.5
    white = np.random.default_rng(seed).standard_normal((count, channels, height, width))
    return torch.from_numpy(idctn(4 * white * radius ** (-alpha / 2), axes=(-2, -1), norm="ortho")).float()
