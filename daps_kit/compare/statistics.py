r"""What can be said of samplers from the same images: paired intervals, ranks over tasks, fronts.

Images are drawn with replacement (bootstrap), the same for all samplers, so that what makes an image hard for all of
them drops out of differences. Over N tasks the mean ranks of k samplers differ, at a level of 5 % over all pairs, where
they are further apart than

    CD = q sqrt(k (k + 1) / (6 N)),    q the 95 % point of the studentised range over sqrt 2 (Nemenyi).

Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_and_tied", "critical_difference", "front", "interval", "mean_ranks"]

Array = NDArray[np.float64]
DRAWS = 4000
LEVEL = 0.95


def _means(values: Array) -> Array:
    """Return means over images drawn with replacement, [DRAWS, ...], for values [images, ...]."""
    count = len(values)
    drawn = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    found: Array = values[drawn].mean(1)
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over images; NaN for fewer than two images, or where one is."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not np.isfinite(x).all():
        return math.nan, math.nan
    low, high = np.quantile(_means(x), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def best_and_tied(table: Mapping[str, Sequence[float]], better: int) -> tuple[str, list[str]]:
    """Return the sampler with the best mean, and those whose paired difference from it has an interval that holds 0.

    Args:
        table: a metric of the same images for each sampler; those with an image that is NaN cannot be the best, nor
            tied with it. Of one image nobody is said to be tied.
        better: 1 where more is better, -1 where less is.
    """
    whole = {
        name: np.asarray(x, dtype=np.float64) for name, x in table.items() if np.isfinite(x).all() and len(x)
    }
    if not whole:
        return "", []
    best = max(whole, key=lambda name: better * float(whole[name].mean()))
    tied = []
    for name, x in whole.items():
        low, high = interval(list(x - whole[best]))
        if name != best and low <= 0 <= high:
            tied.append(name)
    return best, tied


def mean_ranks(table: Mapping[str, Sequence[float]], better: int) -> dict[str, float]:
    """Return the mean rank of each sampler over tasks, 1 the best; equal values share a rank, NaN is last.

    Args:
        table: a value for each task, for each sampler.
        better: 1 where more is better, -1 where less is.
    """
    from scipy.stats import rankdata

    values = np.array([list(x) for x in table.values()], dtype=np.float64)
    losses = np.where(np.isfinite(values), -better * values, np.inf)
    ranks = rankdata(losses, axis=0)
    return dict(zip(table, ranks.mean(1).tolist(), strict=True))


def critical_difference(samplers: int, tasks: int) -> float:
    """Return CD; infinite for fewer than two samplers or tasks."""
    if samplers < 2 or tasks < 2:
        return math.inf
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(LEVEL, samplers, np.inf)) / math.sqrt(2)
    return q * math.sqrt(samplers * (samplers + 1) / (6 * tasks))


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return which points (cost, quality) no other has both cheaper and better, from the cheapest on."""
    found: list[str] = []
    best = -math.inf
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if quality > best:
            found, best = [*found, name], quality
    return found
