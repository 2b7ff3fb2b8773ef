r"""MCGDiff: Monte Carlo guided diffusion, a particle filter that draws measured directions towards y's own diffusion.

With A = U S V^T, in the coordinates z = V^T x, a measured number i is ybar_i = z_i + noise of standard deviation
sigma_y / S_i. It is as noisy as the diffusion at the time tau_i with abar_tau = S_i^2 / (S_i^2 + sigma_y^2), abar_t
being a_t^2, and stands for z_t there; at the times before it is noised as z_t is:

    g_t(z) = N(z; a_t ybar, v_t),    v_t = 1 - (1 - kappa) abar_t / abar_tau     for t >= tau_i, else 1

From t to s, with the ancestral step N(m(z_t), c^2) of the prior, particles are resampled and moved by

    w   = prod N(a_s ybar; m, c^2 + v_s) / g_t(z_t)
    z_s ~ N(m, c^2) g_s,  that is mean K a_s ybar + (1 - K) m and variance K v_s,   K = c^2 / (c^2 + v_s)

in the directions with s >= tau_i, and by the ancestral step in the others. Once s is below all tau_i the particles go
on without y, and one of them is chosen by p(y | x0) / g_t(z_t).

Source: Cardoso, Janati El Idrissi, Le Corff and Moulines, "Monte Carlo guided diffusion for Bayesian linear inverse
problems", ICLR 2024, arXiv 2308.07983, the noisy case; kappa and tau on the grid of steps as in its implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .particles import chosen, each, systematic
from .rival import Level, Problem, Rival
from .spectrum import Spectrum
from .vp import CLEAN, Time, ancestral, ddim_weights, times

__all__ = ["MCGDiff"]


class MCGDiff(Rival):
    """Monte Carlo guided diffusion.

    Args:
        steps: of the diffusion; each is a network call for each particle.
        particles: how many.
        kappa: variance that a measured direction keeps at its tau.
    """

    name = "mcgdiff"
    needs_linear = needs_gaussian = needs_spectrum = True
    approximate = "it is exact with infinitely many particles alone"

    def __init__(self, steps: int, particles: int, kappa: float) -> None:
        self.steps, self.particles, self.kappa = steps, particles, kappa

    def levels(self, problem: Problem) -> Iterator[Level]:
        """Yield the levels."""
        spectrum, noise = Spectrum.of(problem.linear), problem.variance
        ts = times(self.steps, problem.prior.sigma_range)
        ybar = spectrum.measured(problem.linear, problem.y)[:, None]
        squares = spectrum.values.to(ybar).expand(problem.zeros().shape)[:, None].square()
        tau = _nearest([t.a**2 for t in ts], squares / (squares + noise))
        latest = float(tau[squares.expand_as(tau) > 0].max())

        def bridge(t: Time) -> tuple[Tensor, Tensor]:
            """Return where g_t is, and v_t."""
            return (squares > 0) & (t.a**2 <= tau), 1 - (1 - self.kappa) * t.a**2 / tau

        z_t = each(spectrum.to, problem.noise(self.particles))
        on, v = bridge(ts[0])
        potential = _log_normal(z_t, ts[0].a * ybar, v, on)
        for i, (t, s) in enumerate(pairwise([*ts, CLEAN])):
            hat = each(lambda z, t=t: spectrum.to(problem.denoise(spectrum.back(z), t)), z_t)  # type: ignore[misc]
            n = each(spectrum.to, problem.noise(self.particles))
            c, m = ddim_weights(t, s, 1.0)[0], ancestral(z_t, hat, t, s, torch.zeros_like(z_t))
            if s.a**2 <= latest:
                on, v = bridge(s)
                weight = _log_normal(m, s.a * ybar, c**2 + v, on) - potential
                index = systematic(weight, problem.streams.uniform((), torch.float64))
                z_t, hat, m = (chosen(part, index) for part in (z_t, hat, m))
                k = c**2 / (c**2 + v)
                guided = k * s.a * ybar + (1 - k) * m + (k * v).clamp_min(0).sqrt() * n
                z_s = torch.where(on, guided, m + c * n)
                potential = _log_normal(z_s, s.a * ybar, v, on)
            else:
                z_s = m + c * n
            if s == CLEAN:
                misfit = (squares / noise * (ybar - z_s).square()).flatten(2).sum(2)
                index = systematic(misfit / -2 - potential, problem.streams.uniform((), torch.float64))
                z_t, hat, z_s = (chosen(part, index) for part in (z_t, hat, z_s))
            first = [spectrum.back(part[:, 0]) for part in (z_t, hat, z_s if s == CLEAN else hat)]
            yield problem.level(i, len(ts), t, *first)
            z_t = z_s


def _nearest(grid: list[float], values: Tensor) -> Tensor:
    """Return the number of a rising grid that is nearest to each value."""
    there = torch.tensor(grid, dtype=values.dtype, device=values.device)
    above = torch.searchsorted(there, values.contiguous()).clamp(1, len(grid) - 1) if len(grid) > 1 else None
    if above is None:
        return there.expand(values.shape)
    low, high = there[above - 1], there[above]
    return torch.where(values - low < high - values, low, high)


def _log_normal(z: Tensor, mean: Tensor, variance: Tensor, on: Tensor) -> Tensor:
    """Return the log density of each particle [B, K] in the directions that are on, up to a constant of the step."""
    return torch.where(on, (z - mean).square() / variance, 0).flatten(2).sum(2) / -2
