r"""RED: regularisation by denoising, the fixed point of a step that solves for the measurement and denoises.

The gradient of lambda <x, x - D(x)> / 2 is lambda (x - D(x, sigma_f)) where the denoiser D is what RED asks of it. Its
zero together with that of the misfit is sought by

    x = argmin ||y - A x||^2 / (2 sigma_y^2) + (lambda / 2) ||x - D(x_before, sigma_f)||^2

from (A^T A + sigma_y^2 I)^{-1} A^T y. It returns one estimate.

Source: Romano, Elad and Milanfar, "The little engine that could: regularization by denoising (RED)", SIAM Journal on
Imaging Sciences 10, 2017, arXiv 1611.02862, the fixed-point strategy of section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rival import Level, Problem, Rival

__all__ = ["RED"]


class RED(Rival):
    """Regularisation by denoising.

    Args:
        steps: how many; each is a network call.
        weight: lambda.
        sigma: sigma_f.
    """

    name = "red"
    needs_linear = needs_gaussian = True
    approximate = "it returns one estimate"
    deterministic = True

    def __init__(self, steps: int, weight: float, sigma: float) -> None:
        self.steps, self.weight, self.sigma = steps, weight, sigma

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator, variance = problem.linear, problem.variance
        low, high = problem.prior.sigma_range
        sigma, weight = min(max(self.sigma, low), high), self.weight * variance
        seen = operator.adjoint(operator.project(problem.y))
        x = operator.solve_normal(seen, variance)
        for k in range(self.steps):
            denoised = problem.prior.denoise(x, sigma)
            before, x = x, operator.solve_normal(seen + weight * denoised, weight)
            yield Level(k, self.steps, sigma, before, denoised, x)
