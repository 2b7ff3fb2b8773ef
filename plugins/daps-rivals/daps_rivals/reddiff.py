r"""RED-diff: the mean of a narrow Gaussian that is fitted to the posterior, by stochastic optimisation.

From the noisiest time to the cleanest, one step of Adam each on

    ||y - A(mu)||^2 / (2 m) + lambda (s_t / a_t) <epsilonhat(x_t) - n, mu> / d,    x_t = a_t mu + s_t n,

epsilonhat(x_t) = (x_t - a_t x0hat) / s_t held fixed, for m measured numbers and an image of d. It starts at
(A^T A + sigma_y^2 I)^{-1} A^T y, or at zero for an operator that is not linear. Noise that is not Gaussian takes its
own misfit.

Source: Mardani, Song, Kautz and Vahdat, "A variational perspective on solving inverse problems with diffusion models",
ICLR 2024, arXiv 2305.04391, Algorithm 1; means over numbers and momenta as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from daps_kit.contracts import LinearOperator

from .adam import Adam
from .rival import Level, Problem, Rival
from .vp import times

__all__ = ["REDDiff"]


class REDDiff(Rival):
    """Regularisation by denoising diffusion.

    Args:
        steps: of the optimisation; each is a network call.
        lambda_: weight of the prior.
        lr: step size of Adam.
    """

    name = "red_diff"
    approximate = (
        "it seeks the mode of a fitted Gaussian, and its runs differ by the noise of the search alone"
    )

    def __init__(self, steps: int, lambda_: float, lr: float) -> None:
        self.steps, self.lambda_, self.lr = steps, lambda_, lr

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator, y = problem.operator, problem.y
        ts = times(self.steps, problem.prior.sigma_range)
        adam, mu = Adam(self.lr, (0.9, 0.99)), self.start(problem)
        measured = y[0].numel() if operator.observed is None else operator.project(y[:1] * 0 + 1).sum().item()
        for i, t in enumerate(ts):
            n = problem.noise()
            x_t = t.a * mu + t.s * n
            x0hat = problem.denoise(x_t, t)
            epsilon = (x_t - t.a * x0hat) / t.s
            _, gradient = operator.loss_grad(mu, y)
            pull = gradient / (2 * measured) + self.lambda_ * t.sigma * (epsilon - n) / mu[0].numel()
            mu = adam.step(mu, pull)
            yield problem.level(i, len(ts), t, x_t, x0hat, mu)

    def start(self, problem: Problem) -> Tensor:
        """Return the first mu."""
        if not isinstance(problem.operator, LinearOperator):
            return problem.zeros()
        operator = problem.linear
        return operator.solve_normal(operator.adjoint(operator.project(problem.y)), problem.variance)
