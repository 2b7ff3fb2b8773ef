"""How stiff a likelihood is."""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import PoissonNoise, Target

__all__ = ["likelihood_curvature"]


def likelihood_curvature(target: Target, clean: Tensor) -> float | Tensor:
    """Return the second derivative of the negative log-likelihood by the clean measurement, or a bound on it.

    Gaussian noise: 1 / v. Poisson: the larger of what counts and rate give. Other noise: 1 / v, which is a guess.
    """
    noise, v = target.operator.noise, target.likelihood_variance
    if not isinstance(noise, PoissonNoise):
        return 1 / v
    gain = noise.peak / (1 - noise.black)
    rate = (gain * (clean - noise.black)).clamp_min(1)
    counts = (gain * (target.y - noise.black)).clamp_min(0)
    return gain**2 * torch.maximum(1 / rate, counts / rate.square()) / v
