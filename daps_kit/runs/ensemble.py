r"""What the samples of an image say together, and how well their spread fits the truth.

For R samples x_1 .. x_R of a pixel with true value t, mean m and variance v = sum (x_i - m)^2 / (R - 1):

    CRPS           (1/R) sum |x_i - t| - (1 / (2 R (R - 1))) sum_{i, j} |x_i - x_j|, whose expectation does not
                   depend on R: E|X - t| - E|X - X'| / 2
    interval       from the k-th smallest to the k-th largest sample, k = max(1, floor(0.05 (R + 1)))
    coverage       the share of pixels with t inside. Samples of the right posterior are exchangeable with t, which so
                   has each of R + 1 ranks equally often: (R + 1 - 2 k) / (R + 1) is due, exactly. That is 0.9 for 19,
                   39, 59 ... samples, and .6 for 4, whose whole range is narrower than a 90 % interval
    spread         the root of the mean over pixels of v (1 + 1/R), which for the right posterior is the
                   root mean square error of m
    error          of the mean of infinitely many samples, squared: the mean of (m - t)^2 - v / R

m has an error of its own, v / R. A sampler may give with each x_i an a_i that varies less and has, but for a bias b,
the same mean, such as the mean of what it drew on the way. With d_i = a_i - x_i, its mean d, and the covariance s of
x_i and d_i, all of them means over pixels,

    posterior mean m + l d,    l = -(s / R) / d^2, within [0, 1],

has the least expected squared error of its kind: that of m + l d is v / R + 2 l s / R + l^2 E d^2, and E d^2 contains
b^2. So the more samples there are, the less a bias counts. One sample does not tell; l is 1 there. So it is where the
a_i are alike, their variance below `ALIKE` of that of the samples: no mean of draws varies so little, and what a
sampler says of y without drawing is E[x0 | y] itself, from which the samples' own mean is what is off.

Sources: Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007; Ferro, "Fair
scores for ensemble forecasts", QJRMS 2014, for the form of the CRPS; Fortin et al., "Why should ensemble spread match
the RMSE of the ensemble mean?", J. Hydrometeorology 2014.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "QUANTILES",
    "coverage_due",
    "crps",
    "interval",
    "medoid",
    "moments",
    "posterior_mean",
    "spread_scores",
]

QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
"""By their names in posterior.safetensors."""

TAIL = 0.05
"""What is left out on each side of the interval."""

ALIKE = 0.01
"""Share of the samples' variance below which averages are no means of draws: those of a hundred have as much."""


def posterior_mean(samples: Tensor, averages: Tensor | None = None) -> Tensor:
    """Return the estimate of E[x0 | y] with the least expected squared error, see above, [...].

    Args:
        samples: of an image, [R, ...].
        averages: what the sampler gives with each, [R, ...], if it does.
    """
    mean = samples.mean(0)
    if averages is None:
        return mean
    own = averages.mean(0)
    if float((averages - own).square().sum()) <= ALIKE * float((samples - mean).square().sum()):
        return own
    apart = averages - samples
    moved = own - mean
    shared = float(((samples - mean) * (apart - moved)).sum(dtype=torch.float64)) / (len(samples) - 1)
    square = float(moved.square().sum(dtype=torch.float64))
    return mean + (min(max(0.0, -shared / len(samples) / square), 1.0) if square > 0 else 0.0) * moved


def moments(samples: Tensor, widen: float = 1.0, averages: Tensor | None = None) -> dict[str, Tensor]:
    """Return posterior mean, standard deviation and quantiles of the samples [R, ...] of an image, each [...].

    Those of 5 and 95 % are moved from the mean of the samples by the factor `widen`. Quantiles interpolate between
    samples, so that of few samples they are drawn in. One sample has only a mean, and that only by its average.
    """
    if len(samples) < 2 and (averages is None or not len(samples)):
        return {}
    found = {"mean": posterior_mean(samples, averages)}
    if len(samples) > 1:
        levels = torch.tensor(list(QUANTILES.values()), dtype=samples.dtype, device=samples.device)
        # torch.quantile takes no more than 16 million numbers.
        parts = torch.split(samples.flatten(1), max(1, 8_000_000 // len(samples)), 1)
        rows = [torch.quantile(part, levels, dim=0) for part in parts]
        quantiles = torch.cat(rows, 1).reshape(len(levels), *samples.shape[1:])
        found |= {"std": samples.std(0), **dict(zip(QUANTILES, quantiles, strict=True))}
        if widen != 1:
            mean = samples.mean(0)
            found |= {key: mean + widen * (found[key] - mean) for key in ("q05", "q95")}
    return found


def medoid(samples: Tensor) -> int:
    """Return which of the samples [R, ...] is nearest to the others: least in summed squared distance."""
    # sum_j |x_i - x_j|^2 = R |x_i - m|^2 + sum_j |x_j - m|^2
    return int((samples - samples.mean(0)).flatten(1).square().sum(1).argmin())


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score in its unbiased form, elementwise, [...].

    Args:
        samples: [R, ...] with R > 1.
        truth: [...].
    """
    count = len(samples)
    ordered = samples.sort(0).values
    # sum_{i, j} |x_i - x_j| / 2 = sum_i (2 i - R - 1) x_(i) over the ordered samples, i from 1
    weight = 2 * torch.arange(1, count + 1, dtype=samples.dtype, device=samples.device) - count - 1
    apart: Tensor = torch.tensordot(weight, ordered, 1) / (count * (count - 1))
    return (samples - truth).abs().mean(0) - apart


def interval(count: int) -> int:
    """Return k: the interval goes from the k-th smallest of so many samples to the k-th largest."""
    return max(1, math.floor(TAIL * (count + 1) + 1e-9))


def coverage_due(count: int) -> float:
    """Return which share of truths the interval of so many samples holds if they are drawn from the right posterior."""
    return (count + 1 - 2 * interval(count)) / (count + 1)


def spread_scores(samples: Tensor, truth: Tensor, widen: float = 1.0) -> dict[str, float] | None:
    """Return how well the spread of the samples of an image fits its truth; None for fewer than two samples.

    Args:
        samples: [R, C, H, W] in [-1, 1], not clipped.
        truth: [C, H, W].
        widen: factor by which the interval is widened about the mean.

    Returns:
        `crps` in units of images in [-1, 1]; `coverage` and `coverage_due` of the interval; `spread_error`, the ratio
        of spread and error, 1 for the right posterior; `psnr_corrected`, the PSNR of the mean of infinitely many
        samples in dB, NaN where the samples are too few to tell.
    """
    count = len(samples)
    if count < 2:
        return None
    x, t = samples.double(), truth.double()
    mean, variance = x.mean(0), x.var(0)
    k = interval(count)
    low, high = (mean + widen * (x.kthvalue(place, 0).values - mean) for place in (k, count + 1 - k))
    error = float((mean - t).square().mean())
    spread = float(variance.mean()) * (1 + 1 / count)
    left = float((mean.clamp(-1, 1) - t).square().mean() - variance.mean() / count) / 4
    return {
        "crps": float(crps(x, t).mean()),
        "coverage": float(((low <= t) & (t <= high)).double().mean()),
        "coverage_due": coverage_due(count),
        "spread_error": math.sqrt(spread / error) if error > 0 else math.nan,
        "psnr_corrected": -10 * math.log10(left + 1e-8) if left > 0 else math.nan,
    }
