r"""Draws of the noise of an image of which parts are hidden, by imputing these with their noise.

Pixels of x0 are seen where m = 1, with noise of a variance v. Of the misfit r = m (x + v^{1/2} n), x ~ N(0, C), neither
log det nor the inverse of the covariance is at hand; of z = x + v^{1/2} n, seen everywhere, they are, for C + v I is
diagonal in the cosine basis, as is C with a factor kappa where it is a mean over images (`spectrum`). So what is
hidden of z is drawn as well. A round is, of the joint density of x, z, v and kappa given r,

    x         ~ p(x | r, v, kappa)                         as the kernel `exact` does
    v         ~ p(v | x, r)                                of what is seen of r - x
    z         = r where m = 1, and x + v^{1/2} n elsewhere
    v, kappa  ~ p(v, kappa | z)                            v with kappa integrated out, then kappa by Laplace's method

The noise that is drawn where pixels are hidden holds v back, the more of them there are, and a drawn x holds it back
the more, the less the measurement says of x. The two draws of v in turn forget what was before twice as fast as the
second alone: with seven of ten pixels hidden the correlation from one round to the next is 0.6.

Sources: Tanner and Wong, "The calculation of posterior distributions by data augmentation", JASA 82 (1987); Yu and
Meng, "To center or not to center: that is not the question", J. Comput. Graph. Stat. 20 (2011), for two in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

from daps_kit.contracts import RandomStreams, Target
from daps_kit.covariance import CosineCovariance, cosine_transform, turned

from .spectrum import Spectrum
from .weighted import Weighted
from .whitened import random_signs

__all__ = ["Imputed", "masks"]

ROUNDS, MOST = 8, 60
"""Of an image that is seen, so many more as less of it is; and at most."""

ACCURACY, STEPS = 0.02, 300
"""Error of a draw of x, in posterior standard deviations, and steps of conjugate gradients for it at most."""

Draw = Callable[[Callable[[Tensor], Tensor]], float]
"""Draws v from a log density of values [G] of it."""


def masks(target: Target) -> bool:
    """Return whether the operator of a target hides entries of x0, and does nothing else but add a constant."""
    part = target.operator.linear_part
    if part is None or not part.elementwise or not isinstance(target.covariance, CosineCovariance):
        return False
    probe = random_signs(1, target.centre).expand_as(target.centre)
    return target.y.shape == target.centre.shape and torch.equal(part.forward(probe), part.project(probe))


class Imputed:
    """The misfit of a sample, what is hidden of it, and the factor of C.

    Args:
        target: see `masks`.
        sample: which of its samples.

    Attributes:
        rounds: after how many v hardly depends on where it was.
    """

    def __init__(self, target: Target, sample: int) -> None:
        operator, covariance = target.operator, target.covariance
        assert isinstance(covariance, CosineCovariance)
        self._power, self._colours, self._average = covariance.power, covariance.colours, covariance.average
        misfit = operator.project(target.y - operator.forward(target.centre))
        self._r, self._seen = (
            t[sample : sample + 1] for t in (misfit, operator.project(torch.ones_like(misfit)))
        )
        self._kappa = torch.ones_like(self._power)
        self._count = float(self._seen.sum())
        self.rounds = min(ceil(ROUNDS * self._r.numel() / max(self._count, 1)), MOST)

    def round(self, v: float, draw: Draw, streams: RandomStreams) -> float:
        """Return v after a round.

        Args:
            v: as it was.
            draw: is called twice.
            streams: of the sample.
        """
        x = self._image(v, streams)
        square = float((self._r - self._seen * x).double().square().sum())
        v = draw(lambda v: -0.5 * (square / v + self._count * v.log()))
        z = torch.where(self._seen > 0, self._r, x + v**0.5 * self._normal(streams))
        spectrum = self._spectrum(z)
        v = draw(spectrum.log)
        if self._average:
            normal = streams.normal((spectrum.free,), torch.float64)[0]
            self._kappa = spectrum.drawn(v, normal).reshape(self._power.shape)
        return v

    def _normal(self, streams: RandomStreams) -> Tensor:
        return streams.normal(self._r.shape[1:], self._r.dtype)

    def _image(self, v: float, streams: RandomStreams) -> Tensor:
        """Return x ~ p(x | r, v, kappa), [1, C, H, W]."""
        covariance = CosineCovariance((self._kappa * self._power).to(self._r), self._colours)
        x, noise = covariance.sqrt(self._normal(streams)), v**0.5 * self._normal(streams)
        weight = self._seen / v
        left = covariance.sqrt_transposed(weight * (self._r - x - noise))
        w, _ = Weighted(covariance, weight).solve(left, accuracy=ACCURACY, max_steps=STEPS)
        return x + covariance.sqrt(w)

    def _spectrum(self, z: Tensor) -> Spectrum:
        """Return the spectrum of C as z sees it."""
        energy = cosine_transform(turned(z, self._colours.to(z).T)).double().square().flatten()
        return Spectrum(self._power.flatten(), energy, torch.ones_like(energy), average=self._average)
