r"""TDS: twisted diffusion sampling, a particle filter whose weights undo what guidance gets wrong.

K particles go through the ancestral steps q(x_s | x_t) of the diffusion, guided by the twist

    p~(y | x_t) = N(y; A(x0hat), (sigma_y^2 + r_t^2) I),    r_t^2 = sigma^2 / (1 + sigma^2)

that is with x0hat + (s_t^2 / a_t) grad log p~(y | x_t) in place of x0hat, as q~(x_s | x_t, y). Before each step they
are resampled by

    w_t = p~(y | x_t) q(x_t | x_u) / (p~(y | x_u) q~(x_t | x_u, y)),    u the step before

(p~(y | x_T) at first), so that with many particles the posterior is reached whatever the twist. The last step has no
noise; all particles weigh the same then, and the first is the sample.

Source: Wu, Trippe, Naesseth, Blei and Cunningham, "Practical and asymptotically exact conditional sampling in
diffusion models", NeurIPS 2023, arXiv 2306.17775, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from daps_kit.linalg import per_sample

from .particles import chosen, systematic
from .rival import Level, Problem, Rival
from .vp import CLEAN, Time, times

__all__ = ["TDS"]


class TDS(Rival):
    """Twisted diffusion sampling.

    Args:
        steps: of the diffusion; each is a network call and a Jacobian product for each particle.
        particles: K.
    """

    name = "tds"
    needs_gaussian = True
    approximate = "it is exact with infinitely many particles alone"

    def __init__(self, steps: int, particles: int) -> None:
        self.steps, self.particles = steps, particles

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        ts = times(self.steps, problem.prior.sigma_range)
        x_t = problem.noise(self.particles)
        carried = torch.zeros(x_t.shape[:2], dtype=x_t.dtype, device=x_t.device)
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            twist, x0hat, x0y = (
                torch.stack(part, 1) for part in zip(*self.twisted(problem, x_t, t), strict=True)
            )
            index = systematic(twist + carried, problem.streams.uniform((), torch.float64))
            x_t, twist, x0hat, x0y = (chosen(part, index) for part in (x_t, twist, x0hat, x0y))

            mean, std = _ancestral(x_t, x0hat, t, s)
            n = problem.noise(self.particles)
            x_s = _ancestral(x_t, x0y, t, s)[0] + std * n
            if std:
                log_q, log_guided = -((x_s - mean) / std).square() / 2, -n.square() / 2
                carried = (log_q - log_guided).flatten(2).sum(2) - twist
            yield problem.level(i, len(ts), t, x_t[:, 0], x0hat[:, 0], x_s[:, 0] if s == CLEAN else x0y[:, 0])
            x_t = x_s

    def twisted(self, problem: Problem, x_t: Tensor, t: Time) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield log p~(y | x_t), x0hat and the guided x0hat of one particle after the other."""
        variance = problem.variance + t.sigma**2 / (1 + t.sigma**2)
        for k in range(self.particles):
            x0hat, pull_back = problem.denoise_vjp(x_t[:, k], t)
            misfit, gradient = problem.operator.loss_grad(x0hat, problem.y)
            score = pull_back(gradient / per_sample(-2 * variance, gradient))
            yield -misfit / (2 * variance), x0hat, x0hat + t.s**2 / t.a * score


def _ancestral(x_t: Tensor, x0: Tensor, t: Time, s: Time) -> tuple[Tensor, float]:
    """Return mean and standard deviation of q(x_s | x_t) for a guess of x0."""
    tau = (t.a / s.a * s.s / t.s) ** 2
    return s.a * x0 + s.s * math.sqrt(tau) * (x_t - t.a * x0) / t.s, s.s * math.sqrt(1 - tau)
