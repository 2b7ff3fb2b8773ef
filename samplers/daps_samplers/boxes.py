"""A draw from a density on the unit cube that may have several narrow modes, by few looks at it.

The cube is cut into boxes, of each of which the density in the middle is known. Those that hold most are cut into three
along their longest side, of which the middle one keeps its point, again and again, until no box holds much. A box is
drawn by what it holds, and a point in it. What is finer than the boxes is left to the steps that follow from there.

Source: Jones, Perttunen and Stuckman, "Lipschitzian optimization without the Lipschitz constant", J. Optim. Theory
Appl. 79 (1993), for boxes that are cut into three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_draw"]

BEGIN = (27, 81)
"""Boxes to begin with, of one number and of more, all of one size."""

CUT, ROUNDS = 6, 5
"""Boxes that are cut in a round; rounds at most, for each number."""

MUCH = 0.2
"""Share of the whole that no box is to hold."""

Array = NDArray[np.float64]
Log = Callable[[Sequence[float]], float]


def box_draw(log: Log, draws: Sequence[float]) -> list[float]:
    """Return a point of (0, 1)^P that is drawn from about a density.

    Args:
        log: the logarithm of the density, up to a constant.
        draws: uniform in [0, 1): one for the box, and one for each number.
    """
    count = len(draws) - 1
    middles, sides = np.full((1, count), 0.5), np.ones((1, count))
    logs = np.array([log(middles[0].tolist())])
    while len(logs) < BEGIN[min(count, len(BEGIN)) - 1]:
        middles, sides, logs = _cut(log, middles, sides, logs, np.arange(len(logs)))
    for _ in range(ROUNDS * count):
        share = _shares(sides, logs)
        if share.max() < MUCH:
            break
        middles, sides, logs = _cut(log, middles, sides, logs, np.argsort(share)[-CUT:])
    reached = _shares(sides, logs).cumsum()
    box = min(int(np.searchsorted(reached, draws[0] * reached[-1], side="right")), len(logs) - 1)
    point: Array = middles[box] + (np.array(draws[1:]) - 0.5) * sides[box]
    return [float(u) for u in point]


def _shares(sides: Array, logs: Array) -> Array:
    """Return what of the whole each box holds."""
    held = logs + np.log(sides).sum(1)
    weights = np.exp(held - held.max())
    share: Array = weights / weights.sum()
    return share


def _cut(
    log: Log, middles: Array, sides: Array, logs: Array, which: NDArray[np.intp]
) -> tuple[Array, Array, Array]:
    """Return the boxes with some of them cut into three."""
    sides = sides.copy()
    longest = sides[which].argmax(1)
    sides[which, longest] /= 3
    steps = np.zeros_like(sides[which])
    steps[np.arange(len(which)), longest] = sides[which, longest]
    beside = np.concatenate([middles[which] - steps, middles[which] + steps])
    found = np.array([log(middle) for middle in beside.tolist()])
    both = np.concatenate([which, which])
    return np.concatenate([middles, beside]), np.concatenate([sides, sides[both]]), np.append(logs, found)
