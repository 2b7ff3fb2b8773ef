r"""SITCOM: at each step an input of the network is sought whose denoised image explains the measurement.

    v       = argmin ||y - A(D(v))||^2 + lambda ||v - x_t||^2, by K steps of Adam from x_t, until the misfit is that of
              the noise, ||y - A(D(v))||^2 < (delta sigma_y)^2 m for m measured numbers
    x0y     = D(v)
    x_s     = a_s x0y + s_s n

The search goes through the network: each of its steps costs a call and a Jacobian product. For noise that is not
Gaussian the squared norm is the noise model's misfit, and sigma_y^2 its dispersion.

Source: Alkhouri et al., "SITCOM: step-wise triple-consistent diffusion sampling for inverse problems", ICML 2025,
arXiv 2410.04479, Algorithm 1; numbers of steps, their size and delta as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from daps_kit.linalg import per_sample

from .adam import Adam
from .rival import Level, Problem, Rival
from .vp import CLEAN, times

__all__ = ["SITCOM"]


class SITCOM(Rival):
    """Step-wise triple-consistent sampling.

    Args:
        steps: N of the diffusion.
        inner: K of the search in each.
        lr: step size of Adam.
        weight: lambda.
        delta: of the misfit at which the search ends.
    """

    name = "sitcom"
    approximate = "each level takes an image that fits y as closely as its noise allows, in place of a draw"

    def __init__(self, steps: int, inner: int, lr: float, weight: float, delta: float) -> None:
        self.steps, self.inner, self.lr, self.weight, self.delta = steps, inner, lr, weight, delta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        operator, y = problem.operator, problem.y
        seen = (
            torch.ones_like(y[:1]) if operator.observed is None else operator.project(torch.ones_like(y[:1]))
        )
        enough = self.delta**2 * problem.variance * float(seen.sum())
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise()
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            v, adam, guesses = x_t, Adam(self.lr), []
            for _ in range(self.inner):
                x0v, pull_back = problem.denoise_vjp(v, t)
                guesses.append(x0v)
                misfit, gradient = operator.loss_grad(x0v, y)
                moved = adam.step(v, pull_back(gradient) + 2 * self.weight * (v - x_t))
                v = torch.where(per_sample(misfit, v) < enough, v, moved)
            x0y = problem.denoise(v, t)
            yield problem.level(i, len(ts), t, x_t, [*guesses, x0y][0], x0y)
            x_t = s.a * x0y + s.s * problem.noise()
