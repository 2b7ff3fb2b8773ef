r"""TMPD: Tweedie moment projected diffusion, the variance of each measured number from the derivative of the denoiser.

With V = (s_t^2 / a_t) d x0hat / d x_t, the covariance of p(x0 | x_t) by Tweedie's formula, A V A^T is replaced by the
diagonal of its row sums, which one product gives:

    x0y = x0hat + V A^T [(y - A x0hat) / (sigma_y^2 + A V A^T 1)]

and the step is DDIM's from x0y. Row sums that are not positive, which only a wrong derivative has, count as none.

Source: Boys, Girolami, Pidstrigach, Reich, Mosca and Akyildiz, "Tweedie moment projected diffusions for inverse
problems", TMLR 2024, arXiv 2310.06721; the row sums as in its implementation for masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from .rival import Level, Problem, Rival
from .vp import CLEAN, ddim, times

__all__ = ["TMPD"]


class TMPD(Rival):
    """Tweedie moment projected diffusion.

    Args:
        steps: of the diffusion; each is a network call and two Jacobian products.
        eta: of DDIM, how much noise is fresh.
    """

    name = "tmpd"
    needs_linear = needs_gaussian = True
    approximate = "the covariance of the measured numbers is taken to be diagonal"

    def __init__(self, steps: int, eta: float) -> None:
        self.steps, self.eta = steps, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator = problem.linear
        ts = times(self.steps, problem.prior.sigma_range)
        x_t, ones = problem.noise(), operator.project(torch.ones_like(problem.y))
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x0hat, pull_back = problem.denoise_vjp(x_t, t)
            gamma = t.s**2 / t.a
            spread = operator.forward(gamma * pull_back(operator.adjoint(ones))).clamp_min(0)
            u = problem.residual(x0hat) / (problem.variance + spread)
            x0y = x0hat + gamma * pull_back(operator.adjoint(u))
            yield problem.level(i, len(ts), t, x_t, x0hat, x0y)
            x_t = ddim(x_t, x0y, t, s, self.eta, problem.noise())
