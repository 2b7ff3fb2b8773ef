r"""DDRM: denoising diffusion restoration models, a diffusion for each singular value of the operator.

With A = U S V^T, z = V^T x, zhat = V^T x0hat, and ybar = S^+ U^T y, which is z plus noise sigma_y / S, the step from
x_t = x0 + sigma_t n to sigma_s < sigma_t is for each component

    S = 0                  z_s = zhat + sqrt(1 - eta^2) sigma_s (z_t - zhat) / sigma_t + eta sigma_s n
    sigma_s < sigma_y / S  z_s = zhat + sqrt(1 - eta^2) sigma_s (ybar - zhat) / (sigma_y / S) + eta sigma_s n
    else                   z_s = (1 - eta_b) zhat + eta_b ybar + sqrt(sigma_s^2 - eta_b^2 sigma_y^2 / S^2) n

from z_T ~ N(ybar, sigma_T^2 - sigma_y^2 / S^2), or N(0, sigma_T^2) where S = 0 or the noise of y is larger.

Source: Kawar, Elad, Ermon and Song, "Denoising diffusion restoration models", NeurIPS 2022, arXiv 2201.11793, eq. 7
and 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch

from .rival import Level, Problem, Rival
from .spectrum import Spectrum
from .vp import CLEAN, times

__all__ = ["DDRM"]


class DDRM(Rival):
    """Denoising diffusion restoration.

    Args:
        steps: of the diffusion; each is a network call.
        eta: share of fresh noise where y says nothing, or less than x_t.
        eta_b: how far y is followed where it says more than x_t.
    """

    name = "ddrm"
    needs_linear = needs_gaussian = needs_spectrum = True
    approximate = "x0hat stands for x0 at every step, without its error"

    def __init__(self, steps: int, eta: float, eta_b: float) -> None:
        self.steps, self.eta, self.eta_b = steps, eta, eta_b

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        spectrum = Spectrum.of(problem.linear)
        ybar = spectrum.measured(problem.linear, problem.y)
        s2 = spectrum.values.to(ybar).square()
        scatter2 = torch.where(s2 > 0, problem.variance / s2, math.inf)  # sigma_y^2 / S^2
        ts = times(self.steps, problem.prior.sigma_range)

        sigma2 = ts[0].sigma ** 2
        known = scatter2 <= sigma2
        z_t = torch.where(known, ybar, 0) + torch.where(
            known, sigma2 - scatter2, sigma2
        ).sqrt() * spectrum.to(problem.noise())
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            x_t = spectrum.back(z_t)
            x0hat = problem.denoise(t.a * x_t, t)
            zhat, n, sigma = spectrum.to(x0hat), spectrum.to(problem.noise()), s.sigma

            kept = math.sqrt(1 - self.eta**2) * sigma
            unseen = zhat + kept * (z_t - zhat) / t.sigma + self.eta * sigma * n
            noisier = zhat + kept * (ybar - zhat) / scatter2.sqrt() + self.eta * sigma * n
            left = (sigma**2 - self.eta_b**2 * scatter2).clamp_min(0).sqrt()
            clearer = (1 - self.eta_b) * zhat + self.eta_b * ybar + left * n
            z_t = torch.where(s2 == 0, unseen, torch.where(scatter2 > sigma**2, noisier, clearer))
            yield Level(i, len(ts), t.sigma, x_t, x0hat, spectrum.back(z_t) if s == CLEAN else x0hat)
