r"""DiffPIR: plug-and-play image restoration with half-quadratic splitting inside a diffusion.

    x0hat   = the prior's guess given x_t
    x0y     = argmin ||y - A x||^2 / sigma_y^2 + (lambda / sigma^2) ||x - x0hat||^2
    epsilon = (x_t - a_t x0y) / s_t
    x_s     = a_s x0y + s_s (sqrt(1 - zeta) epsilon + sqrt(zeta) n)

Source: Zhu et al., "Denoising diffusion models for plug-and-play image restoration", CVPRW 2023, arXiv 2305.08995,
Algorithm 1, rho_t = lambda sigma_y^2 / sigma^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from .rival import Level, Problem, Rival
from .vp import CLEAN, Spacing, times

__all__ = ["DiffPIR"]


class DiffPIR(Rival):
    """Half-quadratic splitting inside a diffusion.

    Args:
        steps: of the diffusion; each is a network call.
        lambda_: weight of the prior's guess.
        zeta: share of the noise that is fresh.
        spacing: of the steps.
    """

    name = "diffpir"
    needs_linear = needs_gaussian = True
    approximate = "each level takes the likeliest image in place of a draw"

    def __init__(self, steps: int, lambda_: float, zeta: float, spacing: Spacing) -> None:
        self.steps, self.lambda_, self.zeta, self.spacing = steps, lambda_, zeta, spacing

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator = problem.linear
        ts = times(self.steps, problem.prior.sigma_range, self.spacing)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x0hat = problem.denoise(x_t, t)
            rho = self.lambda_ * problem.variance / t.sigma**2
            x0y = x0hat + operator.solve_normal(operator.adjoint(problem.residual(x0hat)), rho)
            yield problem.level(i, len(ts), t, x_t, x0hat, x0y)
            epsilon = (x_t - t.a * x0y) / t.s
            fresh = problem.noise()
            x_t = s.a * x0y + s.s * (math.sqrt(1 - self.zeta) * epsilon + math.sqrt(self.zeta) * fresh)
