r"""What a noise model must do: it says how a measurement y scatters around the clean measurement a = A(x).

    log p(y | a) = -misfit(a, y) / (2 dispersion) + constant(y),   summed over the elements of y.

Samplers descend the misfit. One that is told a tau sees exp(-misfit / (2 tau^2)): everywhere below v is what the misfit
is divided by, the dispersion where the stated noise counts.

Randomise-then-optimise perturbs the likelihood so that the minimiser of a perturbed objective is a draw. Around a clean
measurement m, with the curvature W of misfit / (2 v) there and eps ~ N(0, I), that is

    f(a) = (a - m) f'(m) + W (a - m)^2 / 2 - (a - m) W^{1/2} eps,

which for Gaussian noise is |a - y'|^2 W / 2 with y' = y + W^{-1/2} eps wherever m is. For other noise it is the Laplace
approximation at the mode m, which a kernel has to correct.

Source: Bardsley, Solonen, Haario and Laine, "Randomize-then-optimize", SIAM J. Sci. Comput. 36 (2014).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from daps_kit.random import RandomStreams

__all__ = ["Noise", "Perturbed", "Quadratic"]

SIMULATIONS = 4
"""Measurements that are simulated to see how large a misfit is to be expected."""

FLAT = 0.1
"""Share of the curvature of Gaussian noise of the same standard deviation that the default curvature has at least."""


class Perturbed(ABC):
    """A perturbed negative log-likelihood of a clean measurement a."""

    @abstractmethod
    def value(self, a: Tensor) -> Tensor:
        """Return it up to a constant, summed, [B]."""

    @abstractmethod
    def gradient(self, a: Tensor) -> Tensor:
        """Return its derivative by a, [B, ...]."""

    @abstractmethod
    def curvature(self, a: Tensor) -> float | Tensor:
        """Return its second derivative by a, or a bound on it; positive, a number or [B, ...]."""


@dataclass(frozen=True)
class Quadratic(Perturbed):
    """slope (a - centre) + weight (a - centre)^2 / 2.

    Attributes:
        centre, slope: [B, ...].
        weight: positive, a number or [B, ...].
    """

    centre: Tensor
    slope: Tensor
    weight: float | Tensor

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        d = a - self.centre
        return (d * (self.slope + self.weight / 2 * d)).flatten(1).sum(1)

    def gradient(self, a: Tensor) -> Tensor:
        """Return slope + weight (a - centre)."""
        return self.slope + self.weight * (a - self.centre)

    def curvature(self, a: Tensor) -> float | Tensor:
        """Return the weight."""
        return self.weight


@dataclass(frozen=True)
class Unperturbed(Perturbed):
    """The negative log-likelihood itself, misfit / (2 v)."""

    noise: Noise
    y: Tensor
    variance: float

    def value(self, a: Tensor) -> Tensor:
        """Return it, summed, [B]."""
        return self.noise.misfit(a, self.y).flatten(1).sum(1) / (2 * self.variance)

    def gradient(self, a: Tensor) -> Tensor:
        """Return misfit_grad / (2 v)."""
        return self.noise.misfit_grad(a, self.y) / (2 * self.variance)

    def curvature(self, a: Tensor) -> float | Tensor:
        """Return the curvature of the misfit, divided by v."""
        return self.noise.curvature(a, self.y) / self.variance


class Noise(ABC):
    """A noise model: independent scatter of each element of y around the clean measurement.

    `sample`, `log_density` and `std` say what the noise is; the rest follows from them, less exactly or slower than by
    formulas of its own. All results have the shape, dtype and device of the clean measurement.

    Attributes:
        dispersion: relates misfit and log-likelihood, log p(y | a) = -misfit / (2 dispersion) + constant. For noise
            that is added it is the variance, in squared units of y, so that a sampler's tau is a standard deviation.
        gaussian: whether the noise is Gaussian: misfit = w (a - y)^2 with w = curvature, a number or a map, so that y
            given a is N(a, dispersion / w), and draws for a linear operator are exact.
    """

    dispersion: float = 1.0
    gaussian: bool = False

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
            (gradient,) = torch.autograd.grad(self.misfit(leaf, y).sum(), leaf)
        return gradient

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
        drawn = [self.misfit(clean, self.sample(clean, streams)) for _ in range(SIMULATIONS)]
        return torch.stack(drawn).mean(0)

    def level(self, y: Tensor) -> float:
        """Return the standard deviation of the noise of a measurement, root mean square, as far as y tells."""
        return float(self.std(y).square().nanmean().sqrt())

    def perturbed(self, clean: Tensor, y: Tensor, variance: float, streams: RandomStreams) -> Perturbed:
        """Draw a perturbed misfit / (2 v), whose minimiser with a prior's, perturbed too, is a sample.

        Args:
            clean: the clean measurement at the mode of the target, [B, ...]; for Gaussian noise it may be any.
            y: the measurement.
            variance: v.
            streams: one random stream a sample.
        """
        weight = self.curvature(clean, y) / variance
        noise = streams.normal(y.shape[1:], y.dtype)
        slope = self.misfit_grad(clean, y) / (2 * variance) - weight**0.5 * noise
        return Quadratic(clean, slope, weight)

    def unperturbed(self, y: Tensor, variance: float) -> Perturbed:
        """Return misfit / (2 v) as a function of the clean measurement."""
        return Unperturbed(self, y, variance)

    def with_black(self, black: float) -> Noise:
        """Return the noise model for measurements in which the value `black` means no light.

        Itself, unless the scatter depends on the light and the model was not told of its own what black is.
        """
        return self
