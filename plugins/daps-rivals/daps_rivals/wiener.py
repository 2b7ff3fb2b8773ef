r"""Wiener's filter: the best linear estimate, with the mean and the covariance of the prior.

    x = m + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A m)

m = D(0, sigma) and C = Cov[x0 | x_t] at the largest noise level that the prior knows, at most SIGMA_MAX, where x_t says
nothing. It returns one estimate for one network call: what is to be beaten.

Source: Wiener, "Extrapolation, interpolation, and smoothing of stationary time series", 1949.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from daps_kit.contracts import Operator, Prior
from daps_kit.linalg import solve

from .rival import Level, Problem, Rival

__all__ = ["Wiener"]

SIGMA_MAX = 1000.0


class Wiener(Rival):
    """The best linear estimate."""

    name = "wiener"
    needs_linear = needs_gaussian = True
    approximate = "it returns one estimate"
    deterministic = True

    def refusal(self, prior: Prior, operator: Operator) -> str:
        """Return why it cannot sample with this prior and this operator; empty if it can."""
        if why := super().refusal(prior, operator):
            return why
        if prior.sized(operator.shape).denoising_covariance(self.sigma(prior)) is None:
            return "wiener needs a prior that knows the covariance of its error (daps-kit calibrate finds it)"
        return ""

    @staticmethod
    def sigma(prior: Prior) -> float:
        """Return the noise level at which mean and covariance are taken."""
        return min(SIGMA_MAX, prior.sigma_range[1])

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the only level."""
        operator, sigma = problem.linear, self.sigma(problem.prior)
        mean = problem.prior.denoise(problem.zeros(), sigma)
        covariance = problem.prior.sized(operator.shape).denoising_covariance(sigma)
        assert covariance is not None

        def spread(u: Tensor) -> Tensor:
            return (
                operator.project(operator.forward(covariance.multiply(operator.adjoint(u))))
                + problem.variance * u
            )

        u = solve(spread, problem.residual(mean))
        yield Level(0, 1, sigma, problem.zeros(), mean, mean + covariance.multiply(operator.adjoint(u)))
