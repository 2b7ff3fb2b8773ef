r"""Samples of p(x0 | y) by tempering, where the prior is a mixture of Gaussians and the operator need not be linear.

Particles are drawn from the prior, x = m_k + C_k^{1/2} z with z ~ N(0, I), and follow it to the posterior through

    p_b(x) proportional to p(x) p(y | x)^b,    b from 0 to 1.

b rises by as much as leaves the weights p(y | x)^(change of b) an effective sample size of SHARE of the particles; they
are resampled, systematically, and then take MOVES steps of a Metropolis chain that leaves p_b as it is,

    z' = sqrt(1 - s^2) z + s n,    n ~ N(0, I),    accepted with probability min(1, (p(y | x') / p(y | x))^b),

with the component k kept and s such that about a quarter are accepted. The proposal keeps the prior, so that the ratio
is that of the likelihoods alone. How probable the components and the modes within them are is carried by the weights.

Sources: Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers", J. R. Stat. Soc. B 68, 2006; Cotter, Roberts,
Stuart and White, "MCMC methods for functions", Statistical Science 28, 2013 (the proposal).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.contracts import Operator

from .mixture import MixtureOfGaussians
from .pool import Pool

__all__ = ["Tempered"]

PARTICLES = 40_000
SHARE = 0.5
"""Effective sample size that is left when b rises, of the number of particles."""
MOVES = 20
ACCEPTED = 0.25
BISECTIONS = 50


@dataclass(frozen=True)
class Tempered(Pool):
    """Samples of p(x0 | y) by tempering."""

    prior: MixtureOfGaussians
    operator: Operator
    y: Tensor
    seed: int

    def draw(self) -> Tensor:
        """Return the samples, [PARTICLES, d]."""
        draw = torch.Generator().manual_seed(self.seed)
        k = self.prior.components(PARTICLES, draw)
        z = torch.randn((PARTICLES, self.prior.means.shape[1]), generator=draw, dtype=torch.float64)
        log, b, step = self._log_likelihood(k, z), 0.0, 1.0
        while b < 1:
            rise = _rise(log, 1 - b)
            b = 1.0 if rise == 1 - b else b + rise
            kept = _resampled(rise * log, draw)
            k, z, log = k[kept], z[kept], log[kept]
            for _ in range(MOVES):
                moved = (1 - step**2) ** 0.5 * z + step * torch.randn(
                    z.shape, generator=draw, dtype=torch.float64
                )
                new = self._log_likelihood(k, moved)
                chance = torch.rand(len(z), generator=draw, dtype=torch.float64).log()
                accepted = chance < b * (new - log)
                z, log = torch.where(accepted[:, None], moved, z), torch.where(accepted, new, log)
                step = min(1.0, step * float((accepted.double().mean() - ACCEPTED).exp()))
        return self.prior.place(k, z)

    def _log_likelihood(self, k: Tensor, z: Tensor) -> Tensor:
        x = self.prior.place(k, z)[:, None, None]
        return self.operator.log_likelihood(x, self.y)


def _rise(log: Tensor, most: float) -> float:
    """Return by how much b may rise, at most so much, by bisection."""

    def effective(rise: float) -> float:
        w = (rise * log).softmax(0)
        return float(1 / w.square().sum())

    if effective(most) >= SHARE * len(log):
        return most
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= SHARE * len(log) else (low, middle)
    return high


def _resampled(log: Tensor, draw: torch.Generator) -> Tensor:
    """Return which particles are left, [N], systematically, given the logs of their weights."""
    at = torch.rand(1, generator=draw, dtype=torch.float64) + torch.arange(len(log))
    return torch.searchsorted(log.softmax(0).cumsum(0), at / len(log)).clamp_max(len(log) - 1)
