r"""PnP-ADMM: the alternating direction method with the prior's denoiser in place of a regulariser's proximal map.

From v = A^T y and u = 0, with rho_k = rho gamma^k,

    x = argmin ||y - A x||^2 / 2 + (rho_k / 2) ||x - (v - u)||^2
    v = D(x + u, sigma_k),    sigma_k = strength sigma_y sqrt(rho / rho_k)
    u = u + x - v

It returns the last v: one estimate. sigma_k^2 is lambda / rho_k of the paper, whose lambda is tuned; here the first is
as large as the noise of the measurement, times `strength`.

Sources: Venkatakrishnan, Bouman and Wohlberg, "Plug-and-play priors for model based reconstruction", GlobalSIP 2013;
Chan, Wang and Elgendy, "Plug-and-play ADMM for image restoration: fixed-point convergence and applications", IEEE TCI
2017, arXiv 1605.01710.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from .rival import Level, Problem, Rival

__all__ = ["ADMM"]


class ADMM(Rival):
    """The alternating direction method with a denoiser.

    Args:
        steps: how many; each is a network call.
        rho: the first penalty.
        gamma: ratio of one penalty to the one before.
        strength: the first noise level of the denoiser, in standard deviations of the noise.
    """

    name = "pnp_admm"
    needs_linear = needs_gaussian = True
    approximate = "it returns one estimate"
    deterministic = True

    def __init__(self, steps: int, rho: float, gamma: float, strength: float) -> None:
        self.steps, self.rho, self.gamma, self.strength = steps, rho, gamma, strength

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator = problem.linear
        low, high = problem.prior.sigma_range
        v = seen = operator.adjoint(operator.project(problem.y))
        u = torch.zeros_like(v)
        for k in range(self.steps):
            rho = self.rho * self.gamma**k
            sigma = self.strength * math.sqrt(problem.variance * self.rho / rho)
            sigma = min(max(sigma, low), high)
            x = operator.solve_normal(seen + rho * (v - u), rho)
            noisy = x + u
            v = problem.prior.denoise(noisy, sigma)
            u = noisy - v
            yield Level(k, self.steps, sigma, noisy, v, v)
