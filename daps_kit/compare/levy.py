r"""Walks with independent increments (Lévy processes at whole times), their denoiser and exact samples given y.

    s_k = u_1 + ... + u_k,    x0 = s / unit,    k = 1, ..., 64

with increments of one of these laws, unit such that walks lie within [-1, 1] nearly always:

    gauss              N(0, 1/4)
    laplace            density exp(-|u|) / 2
    bernoulli-laplace  zero with probability 0.9, else Laplace
    student            Student's t with 3 degrees of freedom

A walk is a Markov chain of numbers, so that E[x0 | x_t] follows from messages passed forth and back on a grid of
numbers (`CELLS`), each a convolution with the law of an increment:

    f_k = (f_{k-1} * p) N(x_t,k; ., sigma^2),    b_{k-1} = (b_k N(x_t,k; ., sigma^2)) * p,
    E[x0 | x_t]_k = sum g f_k(g) b_k(g) / sum f_k(g) b_k(g)

which is exact but for the grid; noise levels below two of its cells are not asked of it. The posterior given
y = A x0 + e has no closed form, and is sampled by Gibbs: an increment is N(0, w) given its variance w, where

    laplace    1 / w given u is inverse Gaussian, of mean 1 / |u| and shape 1
    student    1 / w given u is Gamma(2, (3 + u^2) / 2)
    bernoulli-laplace    a switch v for each increment, drawn with the increments integrated out

and all increments given their variances and y are Gaussian.

Source: Zach, Haouchat and Unser, "A statistical benchmark for diffusion posterior sampling algorithms", ICLR 2026,
arXiv 2509.12821, with its laws (Student's t of 1 and 2 degrees, whose walks no grid holds, left out), signal-to-noise
ratio and four operators; which samples and frequencies are measured is drawn here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.contracts import Prior, RandomStreams

from .matrix import Dense, Matrix
from .pool import Pool

__all__ = ["LAWS", "OPERATORS", "Gibbs", "LevyWalk", "levy_operator"]

LAWS = {"gauss": 0.25, "laplace": 2.0, "bernoulli-laplace": 0.2, "student": 3.0}
"""The variance of an increment by its law."""

OPERATORS = ("identity", "convolution", "sample", "fourier")
SIZE, CELLS = 64, 1024
REACH = 4.5
"""The unit, in standard deviations of the last of a walk."""

DECIBELS = 25
SWITCHED_ON = 0.1
FLOOR = 1e-18
"""What the transform leaves of a density that is none."""

DRAWS = 256
CHAINS, BURN_IN, KEPT = 64, 200, 60


class LevyWalk(Prior):
    """Walks with increments of a law, over images [1, 1, size].

    Args:
        law: one of `LAWS`.
        size: steps of a walk.
    """

    def __init__(self, law: str, size: int = SIZE) -> None:
        self.law, self.size = law, size
        self.unit = REACH * math.sqrt(LAWS[law] * size)
        self.shape = (1, 1, size)
        cell = 2 / CELLS
        self.sigma_range = (2 * cell, float("inf"))
        self.grid = torch.linspace(-1, 1, CELLS + 1, dtype=torch.float64)
        edges = (torch.arange(-CELLS, CELLS + 2, dtype=torch.float64) - 0.5) * cell * self.unit
        kernel = _below(law, edges).diff()
        if law == "bernoulli-laplace":
            kernel[CELLS] += 1 - SWITCHED_ON
        self._length = 4 * CELLS
        self._kernel = torch.fft.rfft(
            torch.roll(torch.cat([kernel, kernel.new_zeros(2 * CELLS - 1)]), -CELLS)
        )
        self._first = kernel[CELLS // 2 : CELLS // 2 + CELLS + 1]
        self._known: dict[float, Dense] = {}

    def _spread(self, message: Tensor) -> Tensor:
        """Return a message after an increment, [B, CELLS + 1], at least `FLOOR` and of largest number 1."""
        spectrum = torch.fft.rfft(message, n=self._length) * self._kernel.to(message.device)
        spread = torch.fft.irfft(spectrum, n=self._length)[..., : CELLS + 1]
        found: Tensor = (spread / spread.amax(-1, keepdim=True)).clamp_min(FLOOR)
        return found

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x]."""
        return self._mean(x, sigma)

    def _mean(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        noisy = x.double().flatten(1)
        variance = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1, 1) ** 2
        grid = self.grid.to(x.device)
        logs = (noisy[..., None] - grid).square() / -2 / variance
        seen = (logs - logs.amax(-1, keepdim=True).detach()).exp().unbind(1)
        forth = [self._first.to(x.device).clamp_min(FLOOR) * seen[0]]
        for likelihood in seen[1:]:
            forth.append(self._spread(forth[-1]) * likelihood)
        back = [torch.ones_like(forth[-1])]
        for likelihood in reversed(seen[1:]):
            back.append(self._spread(back[-1] * likelihood))
        both = torch.stack(forth, 1) * torch.stack(back[::-1], 1)
        mean = (both * grid).sum(-1) / both.sum(-1)
        return mean.reshape(x.shape).to(x.dtype)

    @torch.no_grad()
    def denoising_covariance(self, sigma: float) -> Dense:
        """Return the mean error of the denoiser, over draws."""
        if sigma not in self._known:
            draw = torch.Generator().manual_seed(0)
            x0 = self.draw(DRAWS, draw)
            x_t = x0 + sigma * torch.randn(x0.shape, generator=draw, dtype=torch.float64)
            error = self._mean(x_t[:, None, None], sigma).flatten(1) - x0
            self._known[sigma] = Dense(error.T @ error / DRAWS)
        return self._known[sigma]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw x0, [N, size]."""
        normal = torch.randn((count, self.size), generator=generator, dtype=torch.float64)
        if self.law == "gauss":
            increments = 0.5 * normal
        elif self.law == "student":
            gamma = (
                torch.randn((3, count, self.size), generator=generator, dtype=torch.float64).square().sum(0)
            )
            increments = normal / (gamma / 3).sqrt()
        else:
            increments = normal * (2 * _exponential(normal.shape, generator)).sqrt()
            if self.law == "bernoulli-laplace":
                increments *= torch.rand(normal.shape, generator=generator, dtype=torch.float64) < SWITCHED_ON
        walks: Tensor = increments.cumsum(1) / self.unit
        return walks

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw exactly."""
        seeds = (streams.uniform((), torch.float64) * 2**53).long().tolist()
        drawn = [self.draw(1, torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(drawn)[:, None, None]


def _below(law: str, u: Tensor) -> Tensor:
    """Return the distribution function of an increment, without the part of it that is zero."""
    if law == "gauss":
        below: Tensor = torch.special.ndtr(2 * u)
        return below
    if law == "student":
        s = u / math.sqrt(3)
        return 0.5 + (s / (1 + s.square()) + s.atan()) / math.pi
    below = torch.where(u < 0, u.clamp_max(0).exp() / 2, 1 - (-u.clamp_min(0)).exp() / 2)
    return below * (SWITCHED_ON if law == "bernoulli-laplace" else 1)


def _exponential(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return -torch.log1p(-torch.rand(shape, generator=generator, dtype=torch.float64))


def levy_operator(prior: LevyWalk, name: str) -> Matrix:
    """Return one of `OPERATORS`, with the noise of 25 dB."""
    size, eye = prior.size, torch.eye(prior.size, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    if name == "convolution":
        offsets = torch.arange(-6, 7, dtype=torch.float64)
        taps = torch.exp(-offsets.square() / 8)
        places = torch.arange(size)[:, None] - torch.arange(size)
        inside = places.abs() <= 6
        matrix = torch.where(inside, (taps / taps.sum())[(places + 6).clamp(0, 12)], 0.0)
    elif name == "sample":
        matrix = eye[torch.rand(size, generator=draw) < 0.4]
    elif name == "fourier":
        angles = 2 * math.pi * torch.outer(torch.arange(size // 2 + 1), torch.arange(size)).double() / size
        waves = torch.cat([angles.cos(), angles.sin()[1 : size // 2]]) * math.sqrt(2 / size)
        waves[[0, size // 2]] /= math.sqrt(2)
        taken = (torch.arange(size // 2 + 1) < 5) | (torch.rand(size // 2 + 1, generator=draw) < 0.4)
        matrix = waves[torch.cat([taken, taken[1 : size // 2]])]
    else:
        matrix = eye
    power = (prior.draw(1000, torch.Generator().manual_seed(1)) @ matrix.T).square().mean(1).median()
    return Matrix(matrix, math.sqrt(float(power) / 10 ** (DECIBELS / 10)))


@dataclass(frozen=True)
class Gibbs(Pool):
    """Samples of p(x0 | y) by Gibbs."""

    prior: LevyWalk
    operator: Matrix
    y: Tensor
    seed: int

    def draw(self) -> Tensor:
        """Return the samples, [CHAINS KEPT, size]."""
        size, law, draw = self.prior.size, self.prior.law, torch.Generator().manual_seed(self.seed)
        summed = torch.ones(size, size, dtype=torch.float64).tril() / self.prior.unit
        seen, noise = self.operator.matrix @ summed, self.operator.sigma**2
        w = torch.full((CHAINS, size), LAWS[law], dtype=torch.float64)
        v = torch.rand((CHAINS, size), generator=draw) < 0.5
        kept = []
        for step in range(BURN_IN + KEPT):
            if law == "bernoulli-laplace":
                v = _switches(v, w, seen, self.y, noise, draw)
            spread = w * v if law == "bernoulli-laplace" else w
            u = _increments(spread, seen, self.y, noise, draw)
            w = _variances(law, u, v, draw)
            if step >= BURN_IN:
                kept.append(u @ summed.T)
        return torch.cat(kept)


def _increments(w: Tensor, seen: Tensor, y: Tensor, noise: float, draw: torch.Generator) -> Tensor:
    """Draw u ~ N(0, diag w) given y = B u + e, [CHAINS, size]: of the prior, corrected by what y says of it."""
    u = w.sqrt() * torch.randn(w.shape, generator=draw, dtype=torch.float64)
    e = math.sqrt(noise) * torch.randn((len(w), len(y)), generator=draw, dtype=torch.float64)
    evidence = (seen * w[:, None]) @ seen.T + noise * torch.eye(len(y), dtype=torch.float64)
    apart = torch.linalg.solve(evidence, (y - u @ seen.T - e)[..., None])[..., 0]
    drawn: Tensor = u + w * (apart @ seen)
    return drawn


def _variances(law: str, u: Tensor, v: Tensor, draw: torch.Generator) -> Tensor:
    """Draw w given u."""
    if law == "gauss":
        return torch.full_like(u, LAWS[law])
    if law == "student":
        return (3 + u.square()) / (2 * (_exponential(u.shape, draw) + _exponential(u.shape, draw)))
    # The inverse Gaussian of mean m and shape 1 (Michael, Schucany and Haas, The American Statistician 30, 1976).
    m = 1 / u.abs().clamp_min(1e-6)
    chi = torch.randn(u.shape, generator=draw, dtype=torch.float64).square()
    root = 2 * m / (2 + m * chi + (4 * m * chi + (m * chi).square()).sqrt())
    other = torch.rand(u.shape, generator=draw, dtype=torch.float64) > m / (m + root)
    w = 1 / torch.where(other, m.square() / root, root)
    return w if law == "laplace" else torch.where(v, w, 2 * _exponential(u.shape, draw))


def _switches(v: Tensor, w: Tensor, seen: Tensor, y: Tensor, noise: float, draw: torch.Generator) -> Tensor:
    """Draw the switches in turn given w, with u integrated out: y ~ N(0, B diag(v w) B^T + noise I)."""
    v, chance = v.clone(), torch.rand(v.shape, generator=draw, dtype=torch.float64)
    evidence = (seen * (w * v)[:, None]) @ seen.T + noise * torch.eye(len(y), dtype=torch.float64)
    inverse = torch.linalg.inv(evidence)
    prior = math.log(SWITCHED_ON / (1 - SWITCHED_ON))
    for k, column in enumerate(seen.T):
        pulled = inverse @ column
        t, q = pulled @ column, pulled @ y
        without = 1 - v[:, k] * w[:, k] * t  # of the evidence without this one: t / without and q / without
        t, q = t / without, q / without
        gain = 1 + w[:, k] * t
        odds = prior - gain.log() / 2 + w[:, k] * q.square() / gain / 2
        on = chance[:, k] < odds.sigmoid()
        # From the inverse with the switch as it was to the one with it as it is now (Sherman and Morrison).
        change = (on.double() - v[:, k].double()) * w[:, k]
        factor = change / (1 + change * (pulled @ column))
        inverse = inverse - factor[:, None, None] * pulled[:, :, None] * pulled[:, None]
        v[:, k] = on
    return v
