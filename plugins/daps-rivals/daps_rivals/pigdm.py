r"""PiGDM: pseudoinverse-guided diffusion.

With p(x0 | x_t) taken to be N(x0hat, r_t^2 I), the score of p(y | x_t) is known for a linear operator:

    g = (d x0hat / d x_t)^T A^T (r_t^2 A A^T + sigma_y^2 I)^{-1} (y - A x0hat),    r_t^2 = sigma^2 / (1 + sigma^2)

and each step is DDIM's, plus a_s a_t r_t^2 g: the weight of the paper, which keeps its size where there is no noise,
with the pseudoinverse then in place of r_t^2 A^T (r_t^2 A A^T)^{-1}.

Source: Song, Vahdat, Mardani and Kautz, "Pseudoinverse-guided diffusion models for inverse problems", ICLR 2023,
Algorithm 1 and eq. 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .rival import Level, Problem, Rival
from .vp import CLEAN, ddim, times

__all__ = ["PiGDM"]


class PiGDM(Rival):
    """Pseudoinverse-guided diffusion.

    Args:
        steps: of the diffusion; each is a network call and a Jacobian product.
        eta: of DDIM, how much noise is fresh.
    """

    name = "pigdm"
    needs_linear = needs_gaussian = True
    approximate = "p(x0 | x_t) is taken to be isotropic, of a variance that does not depend on the prior"

    def __init__(self, steps: int, eta: float) -> None:
        self.steps, self.eta = steps, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator = problem.linear
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            r2 = t.sigma**2 / (1 + t.sigma**2)
            x0hat, pull_back = problem.denoise_vjp(x_t, t)
            pull = operator.solve_normal(operator.adjoint(problem.residual(x0hat)), problem.variance / r2)
            x_s = ddim(x_t, x0hat, t, s, self.eta, problem.noise()) + s.a * t.a * pull_back(pull)
            yield problem.level(i, len(ts), t, x_t, x0hat, x_s if s == CLEAN else x0hat)
            x_t = x_s
