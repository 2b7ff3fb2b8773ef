r"""PnP-HQS: half-quadratic splitting with the prior's denoiser in place of a regulariser's proximal map (DPIR).

From z = A^T y, with noise levels sigma_k falling in equal ratios to that of the measurement,

    x = argmin ||y - A x||^2 / sigma_y^2 + (lambda / sigma_k^2) ||x - z||^2
    z = D(x, sigma_k)

It returns the last z: one estimate, no sample.

Source: Zhang, Li, Zuo, Zhang, Van Gool and Timofte, "Plug-and-play image restoration with deep denoiser prior", IEEE
TPAMI 2022, arXiv 2008.13751, eq. 6 and 7; 8 steps from 49 of 255 and lambda = 0.23 as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rival import Level, Problem, Rival

__all__ = ["HQS"]


class HQS(Rival):
    """Half-quadratic splitting with a denoiser.

    Args:
        steps: how many; each is a network call.
        sigma_max: the first noise level.
        weight: lambda.
    """

    name = "pnp_hqs"
    needs_linear = needs_gaussian = True
    approximate = "it returns one estimate"
    deterministic = True

    def __init__(self, steps: int, sigma_max: float, weight: float) -> None:
        self.steps, self.sigma_max, self.weight = steps, sigma_max, weight

    def sigmas(self, problem: Problem) -> list[float]:
        """Return the noise levels, inside what the prior knows."""
        low, high = problem.prior.sigma_range
        first = min(max(self.sigma_max, low), high)
        last = min(max(problem.variance**0.5, low), first)
        return [first * (last / first) ** (k / max(1, self.steps - 1)) for k in range(self.steps)]

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator = problem.linear
        seen = operator.adjoint(operator.project(problem.y))
        z, sigmas = seen, self.sigmas(problem)
        for k, sigma in enumerate(sigmas):
            weight = self.weight * problem.variance / sigma**2
            x = operator.solve_normal(seen + weight * z, weight)
            z = problem.prior.denoise(x, sigma)
            yield Level(k, len(sigmas), sigma, x, z, z)
