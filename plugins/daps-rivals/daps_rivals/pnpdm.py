r"""PnP-DM: plug and play with a diffusion model, a Gibbs sampler between an image and a noisy copy of it.

For k = 0, 1, ... with rho_k = max(rho_0 alpha^k, rho_min)

    likelihood step   z ~ p(z | x, y), proportional to exp(-||y - A z||^2 / (2 sigma_y^2) - ||z - x||^2 / (2 rho_k^2))
    prior step        x ~ p(x | z), proportional to p(x) exp(-||x - z||^2 / (2 rho_k^2))

The first is Gaussian for a linear operator, and drawn exactly: the minimiser for y and x with noise of their own. The
second is what a reverse diffusion from noise level rho_k at z draws, here by ancestral steps on a grid of rho = 7
(Karras et al., arXiv 2206.00364) down to the prior's least level, or SIGMA_MIN, the last of them the denoiser itself.

Source: Wu, Sun, Chen, Zhang, Yue and Bouman, "Principled probabilistic imaging using diffusion models as plug-and-play
priors", NeurIPS 2024, arXiv 2405.18782, Algorithm 1 and eq. 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .rival import Level, Problem, Rival
from .vp import karras

__all__ = ["PnPDM"]

SIGMA_MIN = 0.01


class PnPDM(Rival):
    """A Gibbs sampler between an image and a noisy copy.

    Args:
        iterations: of the Gibbs sampler.
        prior_steps: network calls of each prior step.
        rho, rho_min, decay: rho_0, rho_min and alpha; alpha is lowered where the iterations would not reach rho_min.
    """

    name = "pnp_dm"
    needs_linear = needs_gaussian = True
    approximate = "the copy stays rho_min apart from the image, and both chain and diffusion are finite"

    def __init__(self, iterations: int, prior_steps: int, rho: float, rho_min: float, decay: float) -> None:
        self.iterations, self.prior_steps = iterations, prior_steps
        self.rho, self.rho_min, self.decay = rho, rho_min, decay

    def rhos(self, sigma_range: tuple[float, float]) -> list[float]:
        """Return rho_k, inside what the prior knows."""
        low, high = max(self.rho_min, sigma_range[0]), min(self.rho, sigma_range[1])
        alpha = min(self.decay, (low / high) ** (1 / max(1, self.iterations - 1)))
        return [max(high * alpha**k, low) for k in range(self.iterations)]

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator, variance = problem.linear, problem.variance
        x = problem.zeros()
        rhos = self.rhos(problem.prior.sigma_range)
        for k, rho in enumerate(rhos):
            noisy_y = operator.project(problem.y + math.sqrt(variance) * self._noise_of(problem.y, problem))
            noisy_x = x + rho * problem.noise()
            weight = variance / rho**2
            z = operator.solve_normal(operator.adjoint(noisy_y) + weight * noisy_x, weight)
            x, x0hat = self.reverse(problem, z, rho)
            yield Level(k, len(rhos), rho, z, x0hat, x)

    def reverse(self, problem: Problem, z: Tensor, rho: float) -> tuple[Tensor, Tensor]:
        """Return a sample of p(x | z), and the denoised z."""
        low = min(max(SIGMA_MIN, problem.prior.sigma_range[0]), rho)
        sigmas = karras(self.prior_steps, rho, low)
        x, first = z, z
        for i, (sigma, following) in enumerate(pairwise([*sigmas, 0.0])):
            x0hat = problem.prior.denoise(x, sigma)
            first = x0hat if i == 0 else first
            kept = (following / sigma) ** 2
            fresh = following * math.sqrt(max(0.0, 1 - kept))
            x = x0hat + kept * (x - x0hat)
            if fresh:
                x = x + fresh * problem.noise()
        return x, first

    def _noise_of(self, y: Tensor, problem: Problem) -> Tensor:
        return problem.streams.normal(y.shape[1:], y.dtype if y.is_floating_point() else torch.float32)
