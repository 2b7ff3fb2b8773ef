r"""Noise with heavier tails than a Gaussian's, for measurements with outliers. With d = a - y:

    Laplace    p = exp(-|d| / b) / (2 b),                  misfit 4 b |d|,                            dispersion 2 b^2
    Student    p ~ (1 + d^2 / (nu s^2))^{-(nu + 1) / 2},   misfit s^2 (nu + 1) log(1 + d^2 / nu s^2),   dispersion s^2

The curvature is misfit' / (2 d), that of a parabola that touches the misfit and lies above it everywhere else (of
Laplace's, for |d| below b that of |d| = b): outliers weigh less.

Both are Gaussian given a variance t of each element, which has the density exp(-t / (2 b^2)) / (2 b^2), or that of
nu s^2 / X, X of chi^2 with nu degrees of freedom. Given d, with D = |d| / b, n ~ N(0, 1) and
T = D + n^2 / 2 + (D n^2 + n^4 / 4)^{1/2},

    Laplace    t = b^2 T with probability T / (T + D), else b^2 D^2 / T
    Student    t = (nu s^2 + d^2) / X,    X of chi^2 with nu + 1 degrees of freedom.

Sources: Lange, Little and Taylor, "Robust statistical modeling using the t distribution", JASA 84 (1989); draws by
Bailey, "Polar generation of random variates with the t-distribution", Mathematics of Computation 62 (1994); of
variances by Park and Casella, "The Bayesian lasso", JASA 103 (2008), with Michael, Schucany and Haas, "Generating
random variates using transformations with multiple roots", The American Statistician 30 (1976), and by Marsaglia and
Tsang, "A simple method for generating gamma variables", ACM Trans. Math. Software 26 (2000).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

from .model import Noise, log_mean, wide

__all__ = ["LaplaceNoise", "StudentNoise"]


TINY, TRIES = 1e-12, 6
"""The least variance, in squared scales; and tries for a number of a gamma law, of which one in twenty fails."""


class _Additive(Noise):
    """Noise that is added, of one scale; standard deviation and mean misfit are multiples of it."""

    mixed = True

    def __init__(self, scale: float, *, width: float, expected: float, dispersion: float) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        self.scale = float(scale)
        self.dispersion = dispersion * self.scale**2
        self._width, self._expected = width * self.scale, expected * self.scale**2

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviation, the same everywhere."""
        return torch.full_like(clean, self._width)

    def level(self, y: Tensor) -> float:
        """Return the standard deviation."""
        return self._width

    def expected_misfit(self, clean: Tensor) -> Tensor:
        """Return the mean misfit, the same everywhere."""
        return torch.full_like(clean, self._expected)


class LaplaceNoise(_Additive):
    """Laplace noise, of density exp(-|y - a| / scale) / (2 scale).

    Args:
        scale: b, positive, in the units of the measurement; the standard deviation is sqrt(2) b.
    """

    def __init__(self, scale: float) -> None:
        super().__init__(scale, width=math.sqrt(2), expected=4.0, dispersion=2.0)

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y = clean + b log(u / u'), u and u' uniform in (0, 1]."""
        shape, dtype = clean.shape[1:], clean.dtype
        return (
            clean
            + self.scale * ((1 - streams.uniform(shape, dtype)) / (1 - streams.uniform(shape, dtype))).log()
        )

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return -|y - a| / b - log(2 b)."""
        return -(clean - y).abs() / self.scale - math.log(2 * self.scale)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 4 b |clean - y|."""
        return 4 * self.scale * (clean - y).abs()

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 4 b sign(clean - y)."""
        return 4 * self.scale * (clean - y).sign()

    def curvature(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 b / |clean - y|, at most 2."""
        return 2 * self.scale / (clean - y).abs().clamp_min(self.scale)

    def variances(self, clean: Tensor, y: Tensor, streams: RandomStreams) -> Tensor:
        """Draw t."""
        shape, dtype = clean.shape[1:], clean.dtype
        d, square = (clean - y).abs() / self.scale, streams.normal(shape, dtype).square()
        root = (d + square / 2 + (d * square + square.square() / 4).sqrt()).clamp_min(TINY)
        first = streams.uniform(shape, dtype) * (root + d) <= root
        return self.scale**2 * torch.where(first, root, d.square() / root).clamp_min(TINY)

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean)."""
        a = wide(clean)
        low, high = ((wide(end) - a) / self.scale for end in (lower, upper))
        low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
        # On one side exp(high) (1 - exp(low - high)) / 2; around the middle 1 less both tails.
        left = high.clamp_max(0) + (-torch.expm1((low - high).clamp_max(-1e-30))).log() - math.log(2)
        inside = high.clamp_min(0)
        both = torch.log1p(-(torch.exp(-inside) + torch.exp(low.clamp_max(0))) / 2 + 1e-300)
        return torch.where(high <= 0, left, both).to(clean)


class StudentNoise(_Additive):
    """Student's t noise, a Gaussian with outliers: y = a + scale t, t of `dof` degrees of freedom.

    Args:
        scale: s, positive, in the units of the measurement.
        dof: nu, at least 1 (Cauchy); the fewer, the more outliers. Up to 2 the variance is infinite: the width is then
            taken to be that of 2.5.
    """

    def __init__(self, scale: float, dof: float = 4.0) -> None:
        if not 1 <= dof < math.inf:
            raise ValueError(f"dof must be at least 1 and finite, got {dof}")
        self.dof = float(dof)
        ends = torch.digamma(torch.tensor([(self.dof + 1) / 2, self.dof / 2], dtype=torch.float64))
        super().__init__(
            scale,
            width=math.sqrt(self.dof / (self.dof - 2)) if self.dof > 2.5 else math.sqrt(5),
            expected=(self.dof + 1) * float(ends[0] - ends[1]),
            dispersion=1.0,
        )

    def _squares(self, clean: Tensor, y: Tensor) -> Tensor:
        return (clean - y).square() / (self.dof * self.scale**2)

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y = clean + s cos(2 pi u') sqrt(nu (u^{-2/nu} - 1)), u and u' uniform."""
        shape, dtype = clean.shape[1:], clean.dtype
        radius = (self.dof * torch.expm1(-2 / self.dof * (1 - streams.uniform(shape, dtype)).log())).sqrt()
        return clean + self.scale * radius * (2 * math.pi * streams.uniform(shape, dtype)).cos()

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the log of Student's density."""
        half = self.dof / 2
        constant = (
            math.lgamma(half + 0.5)
            - math.lgamma(half)
            - math.log(math.pi * self.dof) / 2
            - math.log(self.scale)
        )
        return constant - (half + 0.5) * torch.log1p(self._squares(clean, y))

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return s^2 (nu + 1) log(1 + (clean - y)^2 / (nu s^2))."""
        return self.dispersion * (self.dof + 1) * torch.log1p(self._squares(clean, y))

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return 2 w (clean - y), w the curvature."""
        return 2 * self.curvature(clean, y) * (clean - y)

    def curvature(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return (nu + 1) / (nu + (clean - y)^2 / s^2)."""
        return (self.dof + 1) / self.dof / (1 + self._squares(clean, y))

    def variances(self, clean: Tensor, y: Tensor, streams: RandomStreams) -> Tensor:
        """Draw t."""
        half, shape, dtype = (self.dof + 1) / 2, clean.shape[1:], clean.dtype
        least, drawn = half - 1 / 3, torch.ones_like(clean)
        waiting = torch.ones_like(clean, dtype=torch.bool)
        for _ in range(TRIES):
            normal, uniform = streams.normal(shape, dtype), 1 - streams.uniform(shape, dtype)
            cube = (1 + normal / (9 * least) ** 0.5).clamp_min(0) ** 3
            bound = normal.square() / 2 + least * (1 - cube + cube.log())
            taken = waiting & (uniform.log() < bound)
            drawn, waiting = torch.where(taken, cube, drawn), waiting & ~taken
        return (self.dof * self.scale**2 + (clean - y).square()) / (2 * least * drawn)

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean), the integral of cos^{nu - 1} over the angle of t = sqrt(nu) tan."""
        a, root = wide(clean), math.sqrt(self.dof)
        reach = math.pi / 2 if self.dof <= REACH_DOF else math.atan(REACH / root)
        low, high = (((wide(end) - a) / (self.scale * root)).atan() for end in (lower, upper))
        low, high = (
            torch.where(low > reach - GAP, low, low.clamp(-reach, reach)),
            torch.where(high < GAP - reach, high, high.clamp(-reach, reach)),
        )
        half = self.dof / 2
        constant = math.lgamma(half + 0.5) - math.lgamma(half) - math.log(math.pi) / 2

        def log_cosine(angle: Tensor) -> Tensor:
            return (self.dof - 1) * angle.cos().clamp_min(1e-300).log()

        return (constant + log_mean(log_cosine, low, high, NODES) + (high - low).clamp_min(1e-300).log()).to(
            clean
        )


REACH_DOF, REACH, GAP, NODES = 30.0, 10.0, 1e-3, 48
"""Above so many degrees of freedom nothing is looked for beyond so many scales, but for cells that begin there."""
