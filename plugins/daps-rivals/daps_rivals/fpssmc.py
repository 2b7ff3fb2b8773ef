r"""FPS-SMC: filtering posterior sampling, y itself diffused first, then followed by a particle filter.

A measurement of x_t is y_t = A x_t + a_t sigma_y e. A path of them is drawn backwards from y_T = A n, by the step of
the diffusion with the share c of fresh noise,

    y_s = a_s y + sqrt(1 - c) (s_s / s_t) (y_t - a_t y) + sqrt(c) s_s A n

and the particles follow it: from the step of the prior p(x_s | x_t) = N(m, c s_s^2), m = a_s x0hat +
sqrt(1 - c) (s_s / s_t) (x_t - a_t x0hat), they are moved by p(x_s | x_t, y_s) and resampled by p(y_s | x_t). The first
comes from N(0, I) and y_T, the last is x0hat. Everything is Gaussian, and independent in the coordinates of A's
singular vectors.

Source: Dou and Song, "Diffusion posterior sampling for linear inverse problem solving: a filtering perspective",
ICLR 2024; c and the number of particles as in its implementation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .particles import chosen, each, systematic
from .rival import Level, Problem, Rival
from .spectrum import Spectrum
from .vp import CLEAN, times

__all__ = ["FPSSMC"]


class FPSSMC(Rival):
    """Filtering posterior sampling.

    Args:
        steps: of the diffusion; each is a network call for each particle.
        particles: how many.
        fresh: c, the share of fresh noise.
    """

    name = "fps_smc"
    needs_linear = needs_gaussian = needs_spectrum = True
    approximate = "particles are few, and follow a path of measurements that is drawn without the prior"

    def __init__(self, steps: int, particles: int, fresh: float) -> None:
        self.steps, self.particles, self.fresh = steps, particles, fresh

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        spectrum, c = Spectrum.of(problem.linear), self.fresh
        ybar = spectrum.measured(problem.linear, problem.y)
        gain = spectrum.values.to(ybar).expand(ybar.shape).square() / problem.variance  # S^2 / sigma_y^2
        ts = times(self.steps, problem.prior.sigma_range)
        path = [spectrum.to(problem.noise())]
        for t, s in pairwise(ts):
            kept = math.sqrt(1 - c) * s.s / t.s * (path[-1] - t.a * ybar)
            path.append(s.a * ybar + kept + math.sqrt(c) * s.s * spectrum.to(problem.noise()))

        def filtered(m: Tensor, variance: float, i: int) -> tuple[Tensor, Tensor]:
            """Return a draw given the i-th of the path from N(m, variance), and its log evidence."""
            precision = gain[:, None] / ts[i].a ** 2
            posterior = 1 / (1 / variance + precision)
            apart = path[i][:, None] - m
            z = m + posterior * precision * apart
            z = z + posterior.sqrt() * each(spectrum.to, problem.noise(self.particles))
            evidence = (precision * apart.square() / (1 + variance * precision)).flatten(2).sum(2) / -2
            return z, evidence

        z_t, _ = filtered(torch.zeros_like(ybar)[:, None].repeat(1, self.particles, 1, 1, 1), 1.0, 0)
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            hat = each(lambda z, t=t: spectrum.to(problem.denoise(spectrum.back(z), t)), z_t)  # type: ignore[misc]
            z_s = hat
            if s != CLEAN:
                m = s.a * hat + math.sqrt(1 - c) * s.s / t.s * (z_t - t.a * hat)
                z_s, evidence = filtered(m, c * s.s**2, i + 1)
                index = systematic(evidence, problem.streams.uniform((), torch.float64))
                z_t, hat, z_s = (chosen(part, index) for part in (z_t, hat, z_s))
            x_t, x0hat = (spectrum.back(part[:, 0]) for part in (z_t, hat))
            yield problem.level(i, len(ts), t, x_t, x0hat, x0hat)
            z_t = z_s
