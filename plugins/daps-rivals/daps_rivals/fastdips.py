r"""FAST-DIPS: at each level the image nearest to the prior's guess whose measurement is within a ball about y.

    x0y = argmin ||x - x0hat||^2 / (2 sigma^2)   subject to   ||A(x) - y|| <= epsilon

by K rounds of the alternating direction method (ADMM) from x = x0hat, u = 0 and v = A(x), with a penalty rho,

    x = S steps down F(x) = ||x - x0hat||^2 / (2 sigma^2) + (rho / 2) ||A(x) - (v - u)||^2
    v = the point of the ball nearest to A(x) + u,      u = u + A(x) - v

each step along -g, g = grad F, of the length that is best where A is linear,

    alpha = (<x - x0hat, g> / sigma^2 + rho <r, J g>) / (||g||^2 / sigma^2 + rho ||J g||^2),   r = A(x) - (v - u),

at most ALPHA_MAX, and halved until F falls. The prior's derivative is not needed. Then x_t = x0y + sigma n at the next
level; the last gives x0hat.

Source: "FAST-DIPS: adjoint-free analytic steps and hard-constrained likelihood correction for diffusion-prior inverse
problems", ICLR 2026, arXiv 2603.01591, in pixels; numbers of rounds and steps for each task as in its implementation,
noise levels of Karras et al. (arXiv 2206.00364) from 100 to 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from daps_kit.linalg import inner, per_sample

from .rival import Level, Problem, Rival
from .vp import karras

__all__ = ["FASTDIPS"]

SIGMA_MAX, SIGMA_MIN = 100.0, 0.1
ALPHA_MAX, HALVINGS = 1.0, 8


class FASTDIPS(Rival):
    """Guesses corrected within a ball about the measurement.

    Args:
        steps: noise levels; each is a network call.
        rounds: K.
        descent_steps: S.
        rho: the penalty.
        epsilon: radius of the ball.
    """

    name = "fast_dips"
    approximate = "each level takes the nearest image that explains y, in place of a draw"

    def __init__(self, steps: int, rounds: int, descent_steps: int, rho: float, epsilon: float) -> None:
        self.steps, self.rounds, self.descent_steps = steps, rounds, descent_steps
        self.rho, self.epsilon = rho, epsilon

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        low, high = problem.prior.sigma_range
        first = min(max(SIGMA_MAX, low), high)
        sigmas = karras(self.steps, first, min(max(SIGMA_MIN, low), first))
        x_t = sigmas[0] * problem.noise()
        for i, sigma in enumerate(sigmas):
            x0hat = problem.prior.denoise(x_t, sigma)
            last = i == len(sigmas) - 1
            x0y = x0hat if last else self.corrected(problem, x0hat, sigma)
            yield Level(i, len(sigmas), sigma, x_t, x0hat, x0y)
            if not last:
                x_t = x0y + sigmas[i + 1] * problem.noise()

    def corrected(self, problem: Problem, x0hat: Tensor, sigma: float) -> Tensor:
        """Return x0y."""
        operator, y, x = problem.operator, problem.y, x0hat
        seen = operator.project(operator.forward(x))
        v, u = seen, torch.zeros_like(seen)
        for _ in range(self.rounds):
            for _ in range(self.descent_steps):
                x = self._step(problem, x, x0hat, v - u, sigma)
            seen = operator.project(operator.forward(x))
            apart = seen + u - y
            v = y + apart * per_sample(
                (self.epsilon / inner(apart, apart).sqrt().clamp_min(1e-12)).clamp_max(1), y
            )
            u = u + seen - v
        return x

    def _step(self, problem: Problem, x: Tensor, x0hat: Tensor, b: Tensor, sigma: float) -> Tensor:
        """Return what follows x."""
        operator, near = problem.operator, 1 / sigma**2
        clean, vjp = operator.forward_vjp(x)
        r = operator.project(clean - b)
        g = near * (x - x0hat) + self.rho * vjp(r)
        jg = operator.project(operator.jvp(x, g))
        gain = near * inner(x - x0hat, g) + self.rho * inner(r, jg)
        alpha = (gain / (near * inner(g, g) + self.rho * inner(jg, jg) + 1e-12)).clamp(0, ALPHA_MAX)

        def height(at: Tensor) -> Tensor:
            misfit = operator.project(operator.forward(at) - b)
            return self.rho / 2 * inner(misfit, misfit) + near / 2 * inner(at - x0hat, at - x0hat)

        before = self.rho / 2 * inner(r, r) + near / 2 * inner(x - x0hat, x - x0hat)
        for _ in range(HALVINGS):
            higher = height(x - per_sample(alpha, x) * g) > before
            if not bool(higher.any()):
                break
            alpha = torch.where(higher, alpha / 2, alpha)
        return x - per_sample(alpha, x) * g
