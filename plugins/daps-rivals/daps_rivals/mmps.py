r"""MMPS: moment matching posterior sampling, the covariance of p(x0 | x_t) from the derivative of the denoiser.

By Tweedie's formula Cov[x0 | x_t] = V = (s_t^2 / a_t) d x0hat / d x_t, so that for a linear operator

    x0y = x0hat + V A^T (sigma_y^2 I + A V A^T)^{-1} (y - A x0hat)

is E[x0 | x_t, y] with the first two moments of p(x0 | x_t) matched; the system is solved by a few steps of conjugate
gradients, each of which costs a product with the derivative. Steps are DDIM's from x0y.

Source: Rozet, Andry, Lanusse and Louppe, "Learning diffusion priors from observations by expectation maximization",
NeurIPS 2024, arXiv 2405.13712, section 4.2, eq. 19 to 22 (of its version 5); 64 steps, with one of conjugate gradients
in each, as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from daps_kit.linalg import conjugate_gradients

from .rival import Level, Problem, Rival
from .vp import CLEAN, ddim, times

__all__ = ["MMPS"]


class MMPS(Rival):
    """Moment matching posterior sampling.

    Args:
        steps: of the diffusion; each is a network call and `solver_steps` + 1 Jacobian products.
        solver_steps: of conjugate gradients.
        eta: of DDIM, how much noise is fresh.
    """

    name = "mmps"
    needs_linear = needs_gaussian = True
    approximate = "the steps of the diffusion are finite, and its linear system is solved by few steps"

    def __init__(self, steps: int, solver_steps: int, eta: float) -> None:
        self.steps, self.solver_steps, self.eta = steps, solver_steps, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator, variance = problem.linear, problem.variance
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x0hat, pull_back = problem.denoise_vjp(x_t, t)
            gamma = t.s**2 / t.a

            def covariance(u: Tensor) -> Tensor:
                spread = operator.forward(gamma * pull_back(operator.adjoint(u)))  # noqa: B023 (used at once)
                return variance * u + operator.project(spread)

            u, _ = conjugate_gradients(
                covariance, problem.residual(x0hat), tolerance=1e-12, max_steps=self.solver_steps
            )
            x0y = x0hat + gamma * pull_back(operator.adjoint(u))
            yield problem.level(i, len(ts), t, x_t, x0hat, x0y)
            x_t = ddim(x_t, x0y, t, s, self.eta, problem.noise())
