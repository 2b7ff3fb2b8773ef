"""Draws from densities with several narrow modes, against their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from daps_samplers.boxes import box_draw


def drawn(law: Sequence[tuple[float, list[float], float]], count: int) -> tuple[np.ndarray, int]:
    """Return draws from a mixture of normal laws (weight, mean, standard deviation), and looks at it for each."""
    looks = 0
    weights, means, stds = (np.array(each) for each in zip(*law, strict=True))

    def log(point: Sequence[float]) -> float:
        nonlocal looks
        looks += 1
        away = (np.array(point) - means) / stds[:, None]
        each = np.log(weights) - len(point) * np.log(stds) - 0.5 * np.square(away).sum(1)
        return float(np.logaddexp.reduce(each))

    uniform = np.random.default_rng(1).random((count, len(law[0][1]) + 1))
    points = np.array([box_draw(log, draws.tolist()) for draws in uniform])
    return points, looks // count


@pytest.mark.parametrize("dimensions", [1, 2])
def test_narrow_modes_are_drawn_by_their_weights(dimensions: int) -> None:
    std = 0.015 if dimensions == 1 else 0.03
    law = [(0.7, [0.213, 0.64][:dimensions], std), (0.3, [0.768, 0.155][:dimensions], std / 2)]
    points, looks = drawn(law, 200)
    near = np.abs(points - np.array(law[1][1])).max(1) < 0.15
    assert near.mean() == pytest.approx(0.3, abs=0.11)
    assert points[~near, 0].mean() == pytest.approx(0.213, abs=0.005)
    assert points[near, 0].std() == pytest.approx(std / 2, rel=0.4)
    assert looks < 150


def test_a_flat_density_is_looked_at_no_longer_than_to_begin_with() -> None:
    looked = []

    def log(point: Sequence[float]) -> float:
        looked.append(point)
        return 0.0

    points = [box_draw(log, [share, 0.25])[0] for share in np.linspace(0, 0.999, 50)]
    assert len(looked) == 50 * 27
    assert scipy.stats.kstest(points, "uniform").pvalue > 0.5
