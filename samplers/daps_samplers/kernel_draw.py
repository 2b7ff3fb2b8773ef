r"""A whole blur kernel k that is not known, found within the annealing: blind deconvolution.

At a level, x0 = m + e with m = E[x0 | x_t] and e ~ N(0, C). A measurement is linear in the kernel, too: with M the
matrix whose columns are m, shifted to where each number of the kernel takes its pixels from,

    y = M k + (A_k e + n),    Cov[A_k e + n] = S = A_k C A_k^T + v I.

With S at the kernel k' from before, k given x_t and y is a Gaussian, cut where numbers are negative:

    precision    H = M^T S^{-1} M + w 1 1^T
    pull         H (mean - k') = M^T S^{-1} (y - M k')

w keeps the sum near 1, to which the kernel is then scaled: its scale cannot be told from that of the image. The error e
of a best guess does not correlate with the guess, so that this regression of y on m is without bias even where C is not
quite right. A sample of x0 in the place of m holds fast to the kernel that it was drawn with; and S enters as a weight
alone: what its determinant says of k, by the power spectrum of y, is left out, for an image's own spectrum is not the
average one. S is diagonal in the cosine basis to a good approximation; M^T S^{-1} M has, but for the borders, the
autocorrelation of the whitened m as its rows, while the pull has the borders right.

Both x0 and k are found from coarse to fine: noise of the measurement counts as at least TEMPER of that of x_t, so that
x0 is free to change with the kernel, and x_t is noised afresh (`daps`). Down to FOUND the kernel is the mode of that
Gaussian. A shift of it is one of the image: both are moved, by whole pixels, so that its centre of mass is in the
middle. Its mean over the last levels has a support, the numbers that are not small beside the largest. Below FOUND the
numbers of the support, and those next to it, are drawn from the Gaussian, one after the other; all others are 0.

Sources: Levin, Weiss, Durand and Freeman, "Understanding and evaluating blind deconvolution algorithms", CVPR 2009,
for leaving the image out; Murata et al., "GibbsDDRM", ICML 2023, arXiv 2301.12686, and Laroche, Almansa and Coupete,
"Fast Diffusion EM", WACV 2024, arXiv 2309.00287, for kernels within a diffusion sampler; Carroll, Ruppert, Stefanski
and Crainiceanu, "Measurement error in nonlinear models" (2006), 1.4, for errors of Berkson's kind; Geweke, "Efficient
simulation from the multivariate normal and Student-t distributions subject to linear constraints" (1991), for the
draws.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator, Operator, RandomStreams, Target
from daps_kit.covariance import CosineCovariance, LocalCovariance, cosine_filter
from daps_kit.parameters import kernel_size

from .whitened import random_signs

__all__ = ["KernelInference", "conditional", "path", "sweep"]

Array = NDArray[np.float64]

TEMPER = 0.3
"""The least noise of a measurement, in units of that of x_t."""

FOUND = 0.2
"""Noise level of x_t below which the support of the kernel is known."""

AVERAGED, SMALL = 5, 0.05
"""Levels whose kernels are averaged then, and the share of the largest number below which a number is none."""

SUM = 100.0
"""w, over the numbers of the kernel."""

START = 2.0
"""Standard deviation, in pixels, of the Gaussian that is the first kernel."""

PROBES = 16
"""Vectors of random signs of which a covariance's mean variance is taken, where it is not known in the cosine basis."""

ROUNDS, SWEEPS = 2, 10
"""How often S is renewed at a level, and sweeps to the mode each time."""


def path(sigmas: Sequence[float]) -> list[float]:
    """Return the noise levels for an unknown kernel: many where it is found, and then those of a known one."""
    search = [*np.geomspace(3.0, 0.4, 6), *np.geomspace(0.34, 1.05 * FOUND, 10)]
    return [*map(float, search), *(sigma for sigma in sigmas if sigma <= FOUND)]


def conditional(
    operator: LinearOperator, covariance: CosineCovariance, m: Tensor, y: Tensor, v: float, size: int
) -> tuple[Array, Array]:
    """Return M^T S^{-1} M, [n, n], and M^T S^{-1} (y - M k'), [n], n = size^2, in double precision.

    Args:
        operator: has the kernel k', [size, size].
        covariance: C.
        m: [1, C, H, W].
        y: [1, C, H, W].
        v: variance of the noise.
        size: of the kernel.
    """
    gains = operator.spectrum(covariance)
    assert gains is not None
    colours, total = covariance.colours.to(m), (gains + v).to(m)
    pulled = cosine_filter(y - operator.forward(m), 1 / total, colours)
    white = cosine_filter(m, total.rsqrt(), colours)[0]
    padded = [side + size for side in white.shape[-2:]]
    power = torch.fft.rfft2(white, s=padded).abs().square().sum(0)
    autocorrelation = torch.fft.irfft2(power, s=padded)
    apart = torch.arange(size)[None, :] - torch.arange(size)[:, None]
    rows, columns = apart % padded[0], apart % padded[1]
    matrix = autocorrelation[rows[:, None, :, None], columns[None, :, None, :]].reshape(size**2, size**2)
    pull = operator.kernel_adjoint(m, pulled)
    return matrix.double().numpy(), pull.flatten().double().numpy()


def sweep(
    precision: Array, pull: Array, k: Array, numbers: Sequence[int], draws: Array | None
) -> tuple[Array, Array]:
    """Move numbers of a kernel, one after the other, given the others; return it and what is left of the pull.

    The density is that of a Gaussian, exp(-d^T precision d / 2 + pull^T d) for a step d, where no number is negative.

    Args:
        precision: [n, n].
        pull: at k, [n].
        k: [n].
        numbers: which are moved.
        draws: uniform in (0, 1), one for each of them, by which they are drawn; None: they go to their modes.
    """
    k, pull = k.copy(), pull.copy()
    for place, i in enumerate(numbers):
        mean = k[i] + pull[i] / precision[i, i]
        new = max(mean, 0.0)
        if draws is not None:
            new = positive(mean, precision[i, i] ** -0.5, draws[place])
        if new != k[i]:
            pull -= precision[i] * (new - k[i])
            k[i] = new
    return k, pull


def positive(mean: float, std: float, u: float) -> float:
    """Return the quantile at 1 - u of N(mean, std^2) cut at 0."""
    standard = NormalDist()
    beyond = standard.cdf(mean / std)
    if beyond < 1e-9:  # far in the tail it is an exponential distribution
        return float(-np.log(max(u, 1e-300)) * std * std / -mean)
    return float(max(mean - std * standard.inv_cdf(min(max(u * beyond, 1e-300), 1 - 1e-16)), 0.0))


def in_cosines(covariance: Covariance, sample: int, like: Tensor) -> CosineCovariance:
    """Return about the covariance of a sample, diagonal in the cosine basis.

    Args:
        covariance: C.
        sample: which.
        like: an image, [1, C, H, W].
    """
    one = covariance.of(sample)
    if isinstance(one, LocalCovariance):
        scale = one.scale.square().mean((0, 2, 3))
        return CosineCovariance(one.even.power * scale[:, None, None].to(one.even.power), one.even.colours)
    if isinstance(one, CosineCovariance):
        return one
    variance = one.sqrt(random_signs(PROBES, like)).square().mean()
    return CosineCovariance(variance.expand(like.shape[1:]), torch.eye(like.shape[1]).to(like))


class KernelInference:
    """The kernel of each sample of a run, and how it is found.

    Args:
        operator: whose parameters are the numbers of a kernel.
        y: the measurements, [B, C, H, W].

    Attributes:
        operator: the operator at the kernels.
        rounds: how often a level draws its image, and what is unknown given that.
    """

    rounds = 1

    def __init__(self, operator: Operator, y: Tensor) -> None:
        assert operator.parameters is not None
        self.parameters = operator.parameters
        self._noise = operator.noise
        self.size = kernel_size(operator.parameters.names)
        self._place = np.arange(self.size) - self.size // 2
        bell = np.exp(-0.5 * (self._place / START) ** 2)
        first = np.outer(bell, bell) / bell.sum() ** 2
        self._kernels: Array = np.repeat(first.reshape(1, -1), len(y), 0)
        self._last: list[Array] = []
        self._support: list[list[int]] = []
        self.operator = self._at()

    @property
    def values(self) -> Tensor:
        """The kernels, [B, h w]."""
        return torch.from_numpy(self._kernels.copy())

    def _at(self) -> Operator:
        """Return the operator at the kernels, with the noise that all samples have."""
        found = copy.copy(self.parameters.at(self.values))
        found.noise = self._noise
        return found

    def before(self, target: Target, streams: RandomStreams, mean: Covariance | None = None) -> Target:
        """Find the kernels, the image left out; return the target at them, its noise at least TEMPER of that of x_t.

        Args:
            target: of the level; its operator is not used.
            streams: of the samples.
            mean: C as it is on average over images, which serves to find the kernels; None where C is no guess.
        """
        target = target.at(self.operator, max(target.likelihood_variance, (TEMPER * target.sigma) ** 2))
        expected = target if mean is None else target.with_covariance(mean)
        if target.sigma <= FOUND and not self._support:
            self._settle()
        draws = streams.uniform((self.size**2,), torch.float64).cpu().numpy() if self._support else None
        for b in range(len(self._kernels)):
            self._kernels[b] = self._found(b, expected, None if draws is None else draws[b])
        self._last = [*self._last[1 - AVERAGED :], self._kernels.copy()]
        self.operator = self._at()
        return target.at(self.operator, target.likelihood_variance)

    def after(self, target: Target, x0: Tensor, streams: RandomStreams) -> tuple[Target, Tensor]:
        """Return the target, and the level's x0 [B, C, H, W], moved with its kernel so that this is in the middle."""
        if self._support:
            return target, x0
        moved = x0.clone()
        for b, k in enumerate(self._kernels.reshape(-1, self.size, self.size)):
            step = [round(-float(k.sum(1 - axis) @ self._place)) for axis in (0, 1)]
            self._kernels[b] = np.roll(k, step, (0, 1)).ravel()
            moved[b] = slid(x0[b], step)
        self._last[-1] = self._kernels.copy()
        self.operator = self._at()
        return target, moved

    def _settle(self) -> None:
        """Take the mean of the last kernels, without what is small in it, and its support with what is next to it."""
        mean = np.mean(self._last or [self._kernels], 0)
        mean[mean < SMALL * mean.max(1, keepdims=True)] = 0
        self._kernels = mean / mean.sum(1, keepdims=True)
        there = torch.from_numpy(mean > 0).double().reshape(-1, 1, self.size, self.size)
        wide = F.max_pool2d(there, 3, 1, 1).flatten(1).numpy()
        self._support = [np.flatnonzero(row).tolist() for row in wide]

    def _found(self, b: int, target: Target, draws: Array | None) -> Array:
        """Return the kernel of a sample at a level."""
        m, y = target.centre[b : b + 1], target.y[b : b + 1]
        k: Array = self._kernels[b]
        covariance = in_cosines(target.covariance, b, m)
        numbers = self._support[b] if self._support else range(self.size**2)
        for _ in range(ROUNDS):
            operator = self.parameters.row(b)(dict(zip(self.parameters.names, k.tolist(), strict=True)))
            assert isinstance(operator, LinearOperator)
            precision, pull = conditional(operator, covariance, m, y, target.likelihood_variance, self.size)
            precision, found = precision + SUM * self.size**2, k
            for _ in range(SWEEPS):
                found, pull = sweep(precision, pull, found, numbers, None)
            k = scaled(found, k)
        if draws is not None:
            found, _ = sweep(precision, pull, found, numbers, draws)
            k = scaled(found, k)
        return k


def slid(x: Tensor, step: Sequence[int]) -> Tensor:
    """Return an image [C, H, W] moved by some pixels down and to the right, continued by its border."""
    for axis, by in zip((-2, -1), step, strict=True):
        places = (torch.arange(x.shape[axis], device=x.device) - by).clamp(0, x.shape[axis] - 1)
        x = x.index_select(axis, places)
    return x


def scaled(k: Array, old: Array) -> Array:
    """Return a kernel with sum 1; the old one where nothing is left of it."""
    total = float(k.sum())
    return k / total if np.isfinite(total) and total > 0 else old
