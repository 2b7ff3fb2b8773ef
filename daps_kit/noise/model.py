r"""What a noise model must do: it says how a measurement y scatters around the clean measurement a = A(x).

    log p(y | a) = -misfit(a, y) / (2 dispersion) + constant(y),   summed over the elements of y.

Samplers descend the misfit. One that is told a tau sees exp(-misfit / (2 tau^2)): everywhere below v is what the misfit
is divided by, the dispersion where the stated noise counts.

Randomise-then-optimise draws by minimising quadratics. In the place of each element's likelihood L(a), which need be no
Gaussian, it puts a Gaussian one, its site. Let N(m, c) be what all else (the prior, other elements) says of the clean
measurement a, and mu, t the mean and the variance of the true law, proportional to N(a; m, c) L(a). With the site

    exp(-f(a)),    f(a) = (a - mu) (m - mu) / c + W (a - mu)^2 / 2,    W = 1 / t - 1 / c,

the law has that mean and that variance, too. With the slope of f perturbed by W^{1/2} eps, eps ~ N(0, I), its minimiser
with a prior's, perturbed likewise, is a draw. For Gaussian noise the site is the likelihood, whatever m and c are.

Sources: Bardsley, Solonen, Haario and Laine, "Randomize-then-optimize", SIAM J. Sci. Comput. 36 (2014); Minka,
"Expectation propagation for approximate Bayesian inference", UAI 2001, for sites that match moments.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from daps_kit.random import RandomStreams
from daps_kit.unknown import Unknown

__all__ = ["Likelihood", "Noise", "Site", "StackedNoise"]

SIMULATIONS, SIMULATED = (4, 64), 20_000
"""How many measurements, at least and at most, and how many elements of them in all show what misfit is expected."""

NODES, REACH, LEAST = 25, 6.0, 0.05
"""The grid of a site's moments: its points, its ends in standard deviations, and the least width that it may find."""

CELL_NODES, TAIL = 24, 7.0
"""Points of an integral over a cell, and how many standard deviations of a tail are looked at."""

FLAT = 0.1
"""Share of the curvature of Gaussian noise of the same standard deviation that the default curvature has at least."""


def simulations(clean: Tensor) -> int:
    """Return how many measurements of each of the images [B, ...] are simulated: more of small ones."""
    least, most = SIMULATIONS
    return min(max(least, SIMULATED // max(1, clean[:1].numel())), most)


@dataclass(frozen=True)
class Site:
    """A quadratic negative log-likelihood of a clean measurement a, slope (a - centre) + weight (a - centre)^2 / 2.

    Attributes:
        centre, slope: [B, ...].
        weight: not negative, a number or [B, ...].
    """

    centre: Tensor
    slope: Tensor
    weight: float | Tensor

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        d = a - self.centre
        return (d * (self.slope + self.weight / 2 * d)).flatten(1).sum(1)

    def gradient(self, a: Tensor) -> Tensor:
        """Return its derivative by a, [B, ...]."""
        return self.slope + self.weight * (a - self.centre)

    def curvature(self, a: Tensor) -> float | Tensor:
        """Return the weight."""
        return self.weight

    def perturbed(self, streams: RandomStreams) -> Site:
        """Return slope (a - centre) - weight^{1/2} eps (a - centre) + ..., eps drawn from N(0, I)."""
        noise = streams.normal(self.centre.shape[1:], self.centre.dtype)
        return Site(self.centre, self.slope - self.weight**0.5 * noise, self.weight)


@dataclass(frozen=True)
class Likelihood:
    """misfit / (2 v) as a function of the clean measurement.

    Attributes:
        noise: whose misfit it is.
        y: the measurement, [B, ...].
        variance: v.
    """

    noise: Noise
    y: Tensor
    variance: float

    def each(self, a: Tensor) -> Tensor:
        """Return it of each element, [B, ...]."""
        return self.noise.misfit(a, self.y) / (2 * self.variance)

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        return self.each(a).flatten(1).sum(1)

    def gradient(self, a: Tensor) -> Tensor:
        """Return its derivative by a, [B, ...]."""
        return self.noise.misfit_grad(a, self.y) / (2 * self.variance)

    def curvature(self, a: Tensor) -> float | Tensor:
        """Return its second derivative by a, or a bound on it."""
        return self.noise.curvature(a, self.y) / self.variance

    def tangent(self, a: Tensor) -> Site:
        """Return the site with its gradient and its curvature at a."""
        return Site(a, self.gradient(a), self.curvature(a))

    def matched(self, mean: Tensor, variance: Tensor, start: Tensor, spread: Tensor, rounds: int = 1) -> Site:
        """Return the site with which N(mean, variance) gives the mean and the variance that the likelihood gives.

        Args:
            mean, variance: what all but this element's measurement says of a, [B, ...].
            start, spread: roughly where a is and its standard deviation, given all, [B, ...].
            rounds: how often a grid is laid where the one before has found the law.

        By the trapezoidal rule: half a standard deviation apart, its points make no error that counts where a density
        is smooth, and a third of one still less than 0.001 where the spread is three times too large. Rounds follow
        the law to where it is, and find how wide it is.
        """
        at, width = start, spread
        for _ in range(rounds):
            at, width = self._moments(mean, variance, at, width)
        weight = (1 / width.square() - 1 / variance).clamp_min(0)
        return Site(at, (mean - at) / variance, weight)

    def _moments(self, mean: Tensor, variance: Tensor, at: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of N(mean, variance) L on a grid of at +- REACH width."""
        top = torch.full_like(at, -torch.inf)
        zero, one, two = (torch.zeros_like(at) for _ in range(3))
        for t in torch.linspace(-REACH, REACH, NODES).tolist():
            a = at + t * width
            log = -self.each(a) - (a - mean).square() / (2 * variance)
            new = torch.maximum(top, log)
            kept, p = (top - new).exp(), (log - new).exp()
            zero, one, two, top = kept * zero + p, kept * one + t * p, kept * two + t * t * p, new
        shift = one / zero
        spread = (two / zero - shift.square()).clamp_min(LEAST**2).sqrt()
        # What is at an end of the grid goes on beyond it.
        spread = torch.where(shift.abs() > REACH - 1, spread.clamp_min(1), spread)
        return at + shift * width, spread * width


def wide(t: Tensor) -> Tensor:
    """Return a tensor in double precision, where its device has that."""
    return t if t.device.type == "mps" else t.double()


def log_mean(log: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, nodes: int = CELL_NODES) -> Tensor:
    """Return the log of the mean of exp(log(t)) over low <= t <= high, elementwise, by Gauss-Legendre's rule."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    middle, half = (low + high) / 2, (high - low) / 2
    terms = [log(middle + t * half) + math.log(w / 2) for t, w in zip(points, weights, strict=True)]
    return torch.stack(terms).logsumexp(0)


class Noise(ABC):
    """A noise model: independent scatter of each element of y around the clean measurement.

    `sample`, `log_density` and `std` say what the noise is; the rest follows from them, less exactly or slower than by
    formulas of its own. All results have the shape, dtype and device of the clean measurement.

    Attributes:
        dispersion: relates misfit and log-likelihood, log p(y | a) = -misfit / (2 dispersion) + constant. For noise
            that is added it is the variance, in squared units of y, so that a sampler's tau is a standard deviation.
        exact: whether it stands for no noise at all: as little as single precision carries.
        unknown: its numbers that are unknown, and what makes the noise at values of them, where it was built from
            settings with open fields.
        gaussian: whether the noise is Gaussian: misfit = w (a - y)^2 with w = curvature, a number or a map, so that y
            given a is N(a, dispersion / w), and draws for a linear operator are exact.
        mixed: whether the noise is Gaussian with a variance of its own for each element, drawn from a law that scales
            with that of the noise; these are drawn by `variances`.
    """

    dispersion: float = 1.0
    exact: bool = False
    gaussian: bool = False
    mixed: bool = False
    unknown: tuple[Mapping[str, Unknown], Callable[[Mapping[str, float]], Noise]] | None = None

    @classmethod
    def stack(cls, noises: Sequence[Noise]) -> Noise:
        """Return the noise of a batch whose sample b has that of `noises[b]`, all of one kind."""
        return StackedNoise(noises)

    @abstractmethod
    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y given the clean measurement [B, ...]; sample b uses stream b alone."""

    @abstractmethod
    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the exact log p(y | clean), elementwise, with its constants, [B, ...]; differentiable by `clean`."""

    @abstractmethod
    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviation of y, elementwise, [B, ...]; another width where the variance is infinite."""

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the elementwise misfit, zero where the clean measurement explains y best, [B, ...].

        By default clean = y is taken to explain y best.
        """
        return 2 * self.dispersion * (self.log_density(y, y) - self.log_density(clean, y))

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the derivative of the misfit by the clean measurement, elementwise, [B, ...]; autograd by default."""
        with torch.enable_grad():
            leaf = clean.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_density(leaf, y).sum(), leaf)
        return -2 * self.dispersion * gradient

    def curvature(self, clean: Tensor, y: Tensor) -> float | Tensor:
        """Return the second derivative of misfit / 2 by the clean measurement, or a bound on it, for Gauss-Newton.

        Positive; a number or [B, ...]. By default by how much the gradient changes within a standard deviation, and at
        least a tenth of dispersion / std^2, the curvature of Gaussian noise.
        """
        std = self.std(clean)
        change = self.misfit_grad(clean + std / 2, y) - self.misfit_grad(clean - std / 2, y)
        return torch.maximum(change / (2 * std), FLAT * self.dispersion / std.square())

    def expected_misfit(self, clean: Tensor) -> Tensor:
        """Return the mean of misfit(clean, y) over measurements y of `clean`, [B, ...]; by simulation as a default."""
        streams = RandomStreams([0] * len(clean), clean.device)
        drawn = [self.misfit(clean, self.sample(clean, streams)) for _ in range(simulations(clean))]
        return torch.stack(drawn).mean(0)

    def variances(self, clean: Tensor, y: Tensor, streams: RandomStreams) -> Tensor:
        """Draw the variance of each element given y and the clean measurement, [B, ...], where noise is `mixed`.

        Raises:
            TypeError: it is not.
        """
        raise TypeError(f"{type(self).__name__} is no mixture of Gaussians")

    def level(self, y: Tensor) -> float:
        """Return the standard deviation of the noise of a measurement, root mean square, as far as y tells."""
        return float(self.std(y).square().nanmean().sqrt())

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean), elementwise, for values that are rounded or saturated.

        Args:
            clean: the clean measurement, [B, ...].
            lower, upper: ends of each element's cell, [B, ...]; they may be infinite.

        By default the integral of the density, as far as `TAIL` standard deviations from the clean value or, for a cell
        beyond, from its end. Noise whose values are discrete has to define its own.
        """
        a = wide(clean)
        at, low, high = a.detach(), wide(lower), wide(upper)
        reach = TAIL * self.std(at)
        begin = torch.maximum(low, torch.minimum(at, high) - reach)
        end = torch.minimum(high, torch.maximum(at, low) + reach)
        found = log_mean(lambda y: self.log_density(a, y), begin, end) + (end - begin).clamp_min(1e-300).log()
        return found.to(clean)

    def likelihood(self, y: Tensor, variance: float) -> Likelihood:
        """Return misfit / (2 v), v the variance, as a function of the clean measurement."""
        return Likelihood(self, y, variance)

    def with_black(self, black: float) -> Noise:
        """Return the noise model for measurements in which the value `black` means no light.

        Itself, unless the scatter depends on the light and the model was not told of its own what black is.
        """
        return self

    def with_scale(self, scale: float) -> Noise:
        """Return the noise model for measurements that change by about `scale` where an image changes by 1.

        Itself, unless it stands for no noise, which means as little as single precision carries of such values.
        """
        return self


class StackedNoise(Noise):
    """Sample b has noise b, in units in which the dispersion is 1: the misfit of each is divided by its own.

    Args:
        noises: one for each sample, all of one kind.
    """

    def __init__(self, noises: Sequence[Noise]) -> None:
        self.noises = list(noises)
        self.gaussian = all(noise.gaussian for noise in noises)
        self.mixed = all(noise.mixed for noise in noises)
        self.exact = all(noise.exact for noise in noises)

    def _rows(self, function: Callable[..., float | Tensor], *arguments: Tensor) -> Tensor:
        """Return what a function of a noise and of its rows of the arguments gives, [B, ...]."""
        parts = [
            torch.split(t.expand(len(self.noises), *t.shape[1:]) if len(t) == 1 else t, 1) for t in arguments
        ]
        rows = zip(self.noises, *parts, strict=True)
        return torch.cat([torch.zeros_like(row[0]) + function(noise, *row) for noise, *row in rows])

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y.

        Raises:
            TypeError: always; what is stacked is a likelihood.
        """
        raise TypeError("stacked noise is a likelihood, and draws nothing")

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return log p(y | clean)."""
        return self._rows(lambda noise, a, y: noise.log_density(a, y), clean, y)

    def variances(self, clean: Tensor, y: Tensor, streams: RandomStreams) -> Tensor:
        """Draw the variances."""
        rows = zip(self.noises, torch.split(clean, 1), torch.split(y, 1), strict=True)
        return torch.cat([noise.variances(a, z, streams.of(b)) for b, (noise, a, z) in enumerate(rows)])

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviations."""
        return self._rows(lambda noise, a: noise.std(a), clean)

    def misfit(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return the misfits over the dispersions."""
        return self._rows(lambda noise, a, y: noise.misfit(a, y) / noise.dispersion, clean, y)

    def misfit_grad(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return their derivatives."""
        return self._rows(lambda noise, a, y: noise.misfit_grad(a, y) / noise.dispersion, clean, y)

    def curvature(self, clean: Tensor, y: Tensor) -> float | Tensor:
        """Return their second derivatives over 2, or bounds on them."""
        return self._rows(lambda noise, a, y: noise.curvature(a, y) / noise.dispersion, clean, y)

    def expected_misfit(self, clean: Tensor) -> Tensor:
        """Return the means of the misfits."""
        return self._rows(lambda noise, a: noise.expected_misfit(a) / noise.dispersion, clean)

    def log_probability(self, clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < y <= upper | clean)."""
        return self._rows(
            lambda noise, a, low, high: noise.log_probability(a, low, high), clean, lower, upper
        )
