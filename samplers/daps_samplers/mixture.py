r"""Draws of the scale of noise with heavy tails, within the annealing.

Laplace's noise and Student's of the scale s are Gaussian given a variance t_i = s^2 w_i of each element, w_i from a
known law (`daps_kit.noise.heavy_tails`). At a level, rounds of

    x0 ~ p(x0 | x_t, y, t)        exactly, by the kernel: the noise is Gaussian
    s  ~ p(s | w, y, x_t)         where matrices are written out, x0 left out
       ~ p(s | x0, y)             else, t left out
    t  ~ p(t | x0, y, s)

leave p(x0, s, t | x_t, y) as it is. Given w, y is a Gaussian of the covariance M + s^2 diag(w), M = A C A^T, whose
density along s is that of M' + s^2 I with M' = diag(w)^{-1/2} M diag(w)^{-1/2}. Given x0, s hardly moves where the
noise is small beside what x_t leaves open of the image: then all of the misfit is what the last s said. So the first
level begins with Gaussian noise of the same standard deviation, of which the image is left out (`inference`), which is
about right for many numbers: sums of them, as each frequency is one, are nearly normal.

Where C is a mean over images and no matrices are written out, that start is all: in rounds, what C does not know of the
image at hand would be booked on the noise. The mean of n squares of noise of the excess kurtosis k has the relative
variance (2 + k) / n, and k / n of it is not in the density that Gaussian noise has; so log s is given k / (4 n) more.
At all levels the image is then drawn as if s had been known.

Sources: Andrews and Mallows, "Scale mixtures of normal distributions", J. R. Stat. Soc. B 36 (1974); van Dyk and Park,
"Partially collapsed Gibbs samplers", JASA 103 (2008).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Operator, RandomStreams, Target
from daps_kit.noise import GaussianNoise, Noise, StackedNoise
from daps_kit.parameters import NOISE
from daps_kit.unknown import Distribution, Unknown

from .evidence import Evidence
from .inference import SMALLEST, Inference, grid_draw, quantiles, slice_step
from .spectrum import Spectrum

__all__ = ["MixtureInference", "mixed"]

FIRST, LATER = 12, 4
"""Rounds at the first level, and at each that follows."""

SIMULATIONS = 9
"""Of noise, for what is seen of its kurtosis."""


def mixed(operator: Operator) -> bool:
    """Return whether only the scale of noise that is a mixture of Gaussians is unknown of a linear operator."""
    parameters = operator.parameters
    known = operator.linear_part is not None and operator.noise.mixed
    return known and parameters is not None and parameters.names == (f"{NOISE}scale",)


class _Wider(Distribution):
    """The prior of a multiple of a number.

    Attributes:
        of: the prior of the number.
        width: by what it is multiplied.
    """

    of: Distribution
    width: float

    def quantile(self, u: float) -> float:
        """Return that of the number, multiplied."""
        return self.width * self.of.quantile(u)

    def cdf(self, value: float) -> float:
        """Return that of the number at what the value is a multiple of."""
        return self.of.cdf(value / self.width)


class MixtureInference(Inference):
    """The scale of noise that is Gaussian given a variance of each element, and these.

    Args:
        operator: see `mixed`.
        y: the measurements, [B, ...].
    """

    def __init__(self, operator: Operator, y: Tensor) -> None:
        super().__init__(operator, y)
        self._gaussian = Inference(_as_gaussian(operator), y)
        self._shares: Tensor | None = None
        self._evidence: Evidence | None = None
        self._rounds, self._begins = 0, True

    @property
    def rounds(self) -> int:
        """How often a level draws its image, and the scale and the variances given that."""
        return max(self._rounds, 1)

    def before(self, target: Target, streams: RandomStreams, mean: Covariance | None = None) -> Target:
        """Return the target with the noise that is Gaussian given the variances; see `Inference`."""
        gaussian, begin = self._gaussian, self._begins
        self._begins = False
        if begin:
            gaussian.before(target.at(gaussian.operator, 1.0), streams, mean)
            self._take(gaussian.u)
        evidence = Evidence(gaussian.parameters, target.at(gaussian.operator, 1.0))
        if target.covariance.average and not evidence.dense:
            self._rounds = 0
            if begin:
                self._take(self._wider(target, streams))
            return target.at(self.operator, self.operator.noise.dispersion)
        self._rounds, self._evidence = FIRST if begin else LATER, evidence if evidence.dense else None
        if begin:
            self._shares = (self.operator.noise.std(target.y) / self._scale(target.y)).double().square()
        return self._at(target)

    def after(self, target: Target, x0: Tensor, streams: RandomStreams) -> tuple[Target, Tensor]:
        """Draw the scale and the variances given the level's x0 [B, ...]; see `Inference`."""
        if not self._rounds:
            return target, x0
        y = target.y
        assert self._shares is not None
        if self._evidence is None:

            def log(u: Tensor) -> Tensor:
                operator = self.parameters.at(self.parameters.values(u))
                return operator.log_likelihood(x0, y).double().cpu().nan_to_num(-torch.inf)

            self._take(slice_step(log, self.u, 0, streams))
        noise = self.operator.noise
        noise = noise if isinstance(noise, StackedNoise) else StackedNoise([noise])
        drawn = noise.variances(self.operator.forward(x0).double(), y.double(), streams)
        self._shares = drawn / self._scale(y).double().square()
        if self._evidence is not None:
            self._take(self._collapsed(self._evidence, self._shares, streams))
        return self._at(target), x0

    def _scale(self, y: Tensor) -> Tensor:
        """Return s, [B, 1, ...]."""
        return self.values.to(y.device).reshape(-1, *[1] * (y.ndim - 1))

    def _at(self, target: Target) -> Target:
        """Return the target with Gaussian noise of the variances."""
        assert self._shares is not None
        y, operator = target.y, copy.copy(self.operator)
        spread = (self._shares * self._scale(y).double().square()).sqrt().expand(y.shape)
        operator.noise = StackedNoise([GaussianNoise(row) for row in spread])
        return target.at(operator, operator.noise.dispersion)

    def _wider(self, target: Target, streams: RandomStreams) -> Tensor:
        """Return u [B, 1] of s times e^d, d ~ N(0, k / (4 n)), of n numbers that are measured."""
        prior, found = self.parameters.priors[0], self.u.clone()
        counts = target.operator.project(torch.ones_like(target.y)).flatten(1).sum(1).tolist()
        normals = streams.normal((), torch.float64).tolist()
        for b, (count, normal, scale) in enumerate(
            zip(counts, normals, self.values[:, 0].tolist(), strict=True)
        ):
            noise = self.parameters.operators(self.values[b : b + 1])[0].noise
            value = scale * math.exp(normal * math.sqrt(_kurtosis(noise, int(count)) / (4 * count)))
            found[b, 0] = min(max(prior.cdf(value), SMALLEST), 1 - SMALLEST)
        return found

    def _collapsed(self, evidence: Evidence, shares: Tensor, streams: RandomStreams) -> Tensor:
        """Return u [B, 1] of s, drawn given w with x0 left out."""
        u, prior = self.u.clone(), self.parameters.priors[0]
        for b, share in enumerate(streams.uniform((), torch.float64).tolist()):
            matrix, r, seen = evidence.matrix(b)
            root = shares[b].flatten()[seen].sqrt()
            values, vectors = torch.linalg.eigh(matrix / root[:, None] / root)
            spectrum = Spectrum(values, (vectors.T @ (r / root)).square(), torch.ones_like(values))

            def log(grid: Tensor, spectrum: Spectrum = spectrum) -> Tensor:
                return spectrum.log(quantiles(prior, grid).square()).cpu()

            u[b, 0] = grid_draw(log, share)
        return u


def _kurtosis(noise: Noise, count: int) -> float:
    """Return the excess kurtosis that so many numbers show, the median of some simulations: it may be infinite."""
    seeds = range(SIMULATIONS)
    drawn = noise.sample(torch.zeros(len(seeds), count, dtype=torch.float64), RandomStreams(seeds)).square()
    return max(float((drawn.square().mean(1) / drawn.mean(1).square()).median()) - 3, 0.0)


def _as_gaussian(operator: Operator) -> Operator:
    """Return an operator with Gaussian noise of the standard deviation of that of an operator, which is unknown."""
    parameters = operator.parameters
    assert parameters is not None
    (name,), (unknown,) = parameters.names, parameters.unknowns
    one = torch.zeros(1)
    width = float(operator.noise.std(one)) / float(unknown)

    def wrapped(
        build: Callable[[Mapping[str, float]], Operator],
    ) -> Callable[[Mapping[str, float]], Operator]:
        def at(values: Mapping[str, float]) -> Operator:
            made = copy.copy(build({name: values[f"{NOISE}sigma"] / width}))
            made.noise = GaussianNoise(values[f"{NOISE}sigma"])
            return made

        return at

    found = copy.copy(operator)
    found.parameters = replace(
        parameters,
        names=(f"{NOISE}sigma",),
        unknowns=(Unknown(_Wider(of=unknown.prior, width=width)),),
        builds=tuple(map(wrapped, parameters.builds)),
    )
    return found
