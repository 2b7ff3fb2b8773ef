r"""DDSMC: decoupled diffusion sequential Monte Carlo, a particle filter whose proposal is DAPS's draw of x0.

With A = U S V^T, in the coordinates of V, and rho_t^2 = s_t^2 / 2, p(x0 | x_t) is taken to be N(x0hat, rho_t^2 I), so

    p~(y | x_t)       = N(y; A x0hat, sigma_y^2 I + rho_t^2 A A^T)
    p~(x0 | x_t, y)   = N(M^-1 b, M^-1),
    M = A^T A / sigma_y^2 + I / rho_t^2,    b = A^T y / sigma_y^2 + x0hat / rho_t^2

A step of the diffusion, between DDIM's (eta = 1) and DAPS's, which forgets x_t (eta = 0), is

    q(x_s | x_t, x0)  = N(f x0 + g x_t, l^2),   beta = 1 - a_t^2 / a_s^2,   d = eta (1 - beta - a_t^2) + beta,
    f = a_s beta / d,   g = eta sqrt(1 - beta) s_s^2 / d,   l^2 = beta s_s^2 / d

Particles are proposed with x0 from p~(x0 | x_t, y), N(f M^-1 b + g x_t, l^2 + f^2 (M^-1 - rho_t^2)), and resampled by

    w = p~(y | x_s) N(x_s; f x0hat + g x_t, l^2) / (p~(y | x_t) proposal)

so that with many particles the posterior is reached. rho_t is lowered where l^2 - f^2 rho_t^2 would be negative, as in
coarse steps. The last step gives M^-1 b, weighed by p(y | x0).

Source: Ekström Kelvinius, Zhao and Lindsten, "Solving linear-Gaussian Bayesian inverse problems with decoupled
diffusion sequential Monte Carlo", ICML 2025, arXiv 2502.06379; rho_t and eta as in its implementation, with Tweedie's
formula as the reconstruction.
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
from .vp import CLEAN, Time, times

__all__ = ["DDSMC"]


class DDSMC(Rival):
    """Decoupled diffusion sequential Monte Carlo.

    Args:
        steps: of the diffusion; each is a network call for each particle.
        particles: how many.
        eta: how much of x_t a step keeps.
    """

    name = "ddsmc"
    needs_linear = needs_gaussian = needs_spectrum = True
    approximate = "it is exact with infinitely many particles alone"

    def __init__(self, steps: int, particles: int, eta: float) -> None:
        self.steps, self.particles, self.eta = steps, particles, eta

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        spectrum, noise = Spectrum.of(problem.linear), problem.variance
        shape = problem.zeros().shape
        ybar = spectrum.measured(problem.linear, problem.y)[:, None]
        gain = spectrum.values.to(ybar).expand(shape)[:, None].square() / noise  # S^2 / sigma_y^2
        ts = times(self.steps, problem.prior.sigma_range)
        z_t = each(spectrum.to, problem.noise(self.particles))
        carried = torch.zeros(z_t.shape[:2], dtype=z_t.dtype, device=z_t.device)
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            f, g, variance = self._step(t, s)
            rho2 = min(t.s**2 / 2, variance / f**2) if s != CLEAN else t.s**2 / 2
            hat = each(lambda z, t=t: spectrum.to(problem.denoise(spectrum.back(z), t)), z_t)  # type: ignore[misc]
            twist = _log_likelihood(hat, ybar, gain, rho2)
            index = systematic(carried + twist, problem.streams.uniform((), torch.float64))
            z_t, hat, twist = (chosen(part, index) for part in (z_t, hat, twist))

            inverse = 1 / (gain + 1 / rho2)
            x0 = inverse * (gain * ybar + hat / rho2)
            spread = (
                (variance + f**2 * (inverse - rho2)).clamp_min(0) if s != CLEAN else torch.zeros_like(inverse)
            )
            n = each(spectrum.to, problem.noise(self.particles))
            z_s = f * x0 + g * z_t + spread.sqrt() * n
            if s == CLEAN:
                last = _log_likelihood(z_s, ybar, gain, 0.0) - twist
                index = systematic(last, problem.streams.uniform((), torch.float64))
                z_s = chosen(z_s, index)
            else:
                log_p = (z_s - f * hat - g * z_t).square() / -2 / variance
                log_q = n.square() / -2 - spread.log() / 2
                carried = (log_p - log_q).flatten(2).sum(2) - twist
            first = [spectrum.back(part[:, 0]) for part in (z_t, hat, z_s if s == CLEAN else x0)]
            yield problem.level(i, len(ts), t, *first)
            z_t = z_s

    def _step(self, t: Time, s: Time) -> tuple[float, float, float]:
        """Return f, g and l^2."""
        beta = 1 - (t.a / s.a) ** 2
        d = self.eta * (1 - beta - t.a**2) + beta
        return s.a * beta / d, self.eta * math.sqrt(1 - beta) * s.s**2 / d, beta * s.s**2 / d


def _log_likelihood(hat: Tensor, ybar: Tensor, gain: Tensor, rho2: float) -> Tensor:
    """Return log N(y; A x0hat, sigma_y^2 I + rho^2 A A^T) of each particle [B, K], up to a constant of all steps."""
    spread = 1 + gain * rho2
    terms = gain * (ybar - hat).square() / spread + spread.log()
    return terms.flatten(2).sum(2) / -2
