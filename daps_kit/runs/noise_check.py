r"""Does a measurement have the noise that operator.noise says? The samples tell, where they do not follow y.

For the right posterior the whitened residuals e_i = (A(x_i) - y) / sd of its samples are N(0, I), whatever the prior:
samples and truth are exchangeable. But where a sample follows y, its residual is the stated noise, whichever y has. So
only what the samples leave of y counts. With n entries, f = the trace of the covariance of e_i (how many numbers of y
the samples follow; of R samples, without bias) and their mean e,

    ratio^2 = (|e|^2 - f / R) / (n - f)

is the variance of the noise of y in units of the stated one: the update of the evidence framework. Its relative error
is sqrt(2 / (n - f)) by chance; the error of the prior adds to it, the more, the more the samples have to follow. On
portraits, and on a photograph unlike them, rightly stated problems have ratios from 0.99 to 1 + 0.7 f / (n - f), and in
the low frequencies of JPEG files, of which samples follow half, from 0.85 to 1.

Above the line either there is more noise, or the operator is wrong. Then the misfit sits in few entries, as edges or
dead pixels (kurtosis), or neighbours go together; samples that chase noise leave neighbours that go against each other.

Of a multimodal operator only the samples count whose residual is next to the least: the others are in other modes.

Source: MacKay, "Bayesian interpolation", Neural Computation 4, 1992: the noise that maximises the evidence, by the
effective number of parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Operator

__all__ = ["NoiseCheck", "check_noise"]

LOW, FOLLOWED, LOWEST = 0.88, 0.1, 0.7
"""Below LOW - FOLLOWED f / (n - f), and surely below LOWEST, noise is called overstated, as far as chance allows."""

HIGH, FOLLOWING, HIGHEST = 1.1, 0.7, 1.45
"""Above HIGH + FOLLOWING f / (n - f), and surely above HIGHEST, a measurement is not explained."""

AGREE = 1.02
"""How many times the least residual of an image those of its mode have at most, where there are many modes."""

DEVIATIONS = 5
"""Standard deviations that are left to chance."""

LEAST_LEFT = 30
"""How many numbers of y the samples must leave, for anything to be said."""

HEAVY = 4.0
"""Kurtosis (3 for noise) from which few entries carry the misfit."""

ALIKE = 0.08
"""Correlation of neighbouring residuals from which the operator is suspected."""


@dataclass(frozen=True)
class NoiseCheck:
    """What the samples of an image say of the noise of its measurement.

    Attributes:
        ratio: its standard deviation in units of the stated one.
        chance: the standard error of the ratio, as far as chance goes.
        level: its standard deviation, in units of y.
        stated: the stated one.
        cause: what is likely wrong: `overstated` or `understated` noise, the `mask`, the `operator`, or that some
            samples are in other `modes` than the best; empty where nothing is.
        apart: how many samples are in other modes.
    """

    ratio: float
    chance: float
    level: float
    stated: float
    cause: str = ""
    apart: int = 0

    @property
    def text(self) -> str:
        """What is likely wrong, in a sentence; empty where nothing is."""
        noise = f"about {self.level:.2g}, and operator.noise says {self.stated:.2g}"
        return {
            "": "",
            "overstated": f"the measurement has less noise than is stated: {noise}",
            "understated": f"the measurement is not explained: it has noise of {noise}, or the operator is another",
            "mask": "the measurement is not explained, a few of its entries are far off (as noise it would be "
            f"{noise}): look at the mask, and for dead or saturated pixels",
            "modes": f"{self.apart} of its samples explain the measurement less well than the best one: likely wrong",
            "operator": "the measurement is not explained, and what is left is no noise (as noise it would be "
            f"{noise}): look at the operator, such as a kernel turned or shifted, another scale or grid, and for dead "
            "or saturated pixels",
        }[self.cause]

    def record(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {**vars(self), "message": self.text}


@torch.no_grad()
def check_noise(operator: Operator, x0: Tensor, y: Tensor) -> NoiseCheck | None:
    """Return what samples say of the noise; None where they cannot tell.

    So where the noise is not Gaussian, of one sample, and where nearly all of y is followed.

    Args:
        operator: on the device of y.
        x0: samples, [R, C, H, W], drawn with the likelihood of the stated noise.
        y: the measurement, [1, ...].
    """
    if not operator.noise.gaussian:
        return None
    clean = operator.forward(x0).double()
    sd = operator.noise.std(clean.mean(0, keepdim=True))
    seen = operator.telling(y)[0]
    e = (clean - y) / sd
    apart = 0
    if operator.multimodal:
        size = e[:, seen].square().mean(1).sqrt()
        agree = size <= AGREE * size.min()
        e, apart = e[agree], len(e) - int(agree.sum())
    runs = len(e)
    if runs < 2:
        return None
    mean, variance = e.mean(0), e.var(0)
    count, followed = int(seen.sum()), float(variance[seen].sum())
    left = count - followed
    if left < max(LEAST_LEFT, 0.02 * count):
        return None
    ratio = math.sqrt(max(0.0, (float(mean[seen].square().sum()) - followed / runs) / left))
    chance = 1 / math.sqrt(2 * left)
    stated = float(sd.expand_as(y)[0][seen].square().mean().sqrt())
    cause = "modes" if apart else ""
    line = min(HIGHEST, HIGH + FOLLOWING * followed / left)
    low = max(LOWEST, LOW - FOLLOWED * followed / left)
    if ratio < min(low, 1 - DEVIATIONS * chance):
        cause = cause if operator.noise.exact else "overstated"
    elif ratio > max(line, 1 + DEVIATIONS * chance):
        cause = _cause(mean, seen, operator.observed is not None)
    return NoiseCheck(ratio, chance, ratio * stated, stated, cause, apart)


def _cause(e: Tensor, seen: Tensor, masked: bool) -> str:
    """Return what is likely wrong where there is too much residual."""
    values = e[seen] - e[seen].mean()
    variance = values.square().mean()
    if float(values.pow(4).mean() / variance.square()) > HEAVY:
        return "mask" if masked else "operator"
    return "operator" if _neighbours(e, seen) > ALIKE * float(e[seen].square().mean()) else "understated"


def _neighbours(e: Tensor, seen: Tensor) -> float:
    """Return the mean product of values that lie side by side in the last two axes, both seen."""
    total, count = 0.0, 0
    for axis in range(max(0, e.ndim - 2), e.ndim):
        size = e.shape[axis] - 1
        both = seen.narrow(axis, 0, size) & seen.narrow(axis, 1, size)
        total += float((e.narrow(axis, 0, size) * e.narrow(axis, 1, size))[both].sum())
        count += int(both.sum())
    return total / max(1, count)
