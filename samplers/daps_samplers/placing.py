r"""Noise levels where the posterior changes.

Of a linear operator with Gaussian noise, what is left open of x0 at noise level sigma is known before anything is
sampled: with the covariance C_sigma of the prior's error and M = I + C^{1/2} A^T A C^{1/2} / v,

    V(sigma) = tr[(C^{-1} + A^T A / v)^{-1}] / d = tr[C^{1/2} M^{-1} C^{1/2}] / d,

the mean variance of an element of p(x0 | x_t, y). Where V stays as it is, a level changes nothing: the measurement has
told already what x_t tells. Levels are placed in log sigma with the density (dV / d log sigma)^{1/2}, a tenth of them
evenly: a compromise between equal steps of V, which the large errors of high noise levels have for themselves, and
equal steps of log V.

V is estimated at a few levels by one vector of random signs, the same for all (Hutchinson, Communications in
Statistics 18 (1989)), and conjugate gradients, once for a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from daps_kit.contracts import Operator, Prior
from daps_kit.linalg import inner

from .exact import applies
from .target import GaussianTarget
from .whitened import Linearised, Whitened, random_signs

__all__ = ["place", "variance_left"]

NODES = 7
EVEN = 0.1
POWER = 0.5
ACCURACY = 0.05  # of the conjugate gradients, relative
CG_STEPS = 60


def place(
    sigmas: list[float], prior: Prior, operator: Operator, y: Tensor, shape: tuple[int, ...]
) -> list[float]:
    """Return as many noise levels between the same ends, where they are of use; the same where that is not known.

    Args:
        sigmas: noise levels, falling.
        prior: the prior; it must know the covariance of its error.
        operator: the operator as a function of x0; it must be linear, its noise Gaussian.
        y: the measurement, [B, ...].
        shape: of x0, without the batch.
    """
    if len(sigmas) < 3 or not applies(operator) or prior.denoising_covariance(sigmas[0]) is None:
        return sigmas
    nodes = np.geomspace(sigmas[0], sigmas[-1], NODES)
    left = np.array([variance_left(prior, operator, y, shape, float(node)) for node in nodes])
    change = np.clip(left[:-1] - left[1:], 0, None) ** POWER
    if not np.isfinite(change).all() or change.sum() <= 0:
        return sigmas
    density = (1 - EVEN) * change / change.mean() + EVEN
    passed = np.concatenate(([0.0], np.cumsum(density))) / density.sum()
    inside = np.exp(np.interp(np.linspace(0, 1, len(sigmas)), passed, np.log(nodes)))
    return [sigmas[0], *map(float, inside[1:-1]), sigmas[-1]]


@torch.no_grad()
def variance_left(prior: Prior, operator: Operator, y: Tensor, shape: tuple[int, ...], sigma: float) -> float:
    """Return V(sigma)."""
    covariance, v = prior.denoising_covariance(sigma), operator.noise.dispersion
    weight = operator.noise.curvature(y[:1], y[:1]) / v
    assert covariance is not None
    origin = torch.zeros((1, *shape), dtype=y.dtype, device=y.device)
    target = GaussianTarget(
        origin, covariance, operator, y[:1], sigma=sigma, level=0, levels=1, likelihood_variance=v
    )
    probe = covariance.sqrt(random_signs(1, origin))
    accuracy = ACCURACY * float(probe.square().mean().sqrt())
    space = Linearised(Whitened(target), origin, weight)
    solved, _ = space.solve(probe, accuracy=accuracy, max_steps=CG_STEPS)
    # An operator with parameters for each image makes more of the one probe: their mean is taken.
    return float(inner(probe, solved).mean()) / probe.numel()
