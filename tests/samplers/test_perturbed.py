"""Randomise, then optimise with photon noise."""

from __future__ import annotations

from math import sqrt

import pytest

import daps_operators
from daps_kit.settings import PoissonNoiseSettings
from daps_samplers import (
    RandomiseThenOptimise,
)
from tests.samplers.closed_form import COUNTS, elementwise


@pytest.mark.parametrize(
    ("y", "shift", "spread"), [("dark", 0.05, 0.3), ("dim", 0.05, 0.1), ("bright", 0.05, 0.05)]
)
def test_randomise_then_optimise_with_photon_noise(y, shift, spread):
    """Counts of 4, 8 and 30: the mean within so many deviations, the variance within that share."""
    settings = daps_operators.Identity(noise=PoissonNoiseSettings(peak=40.0))
    kernel = RandomiseThenOptimise(newton_steps=30, cg_steps=50, accuracy=1e-3)
    x, (mean, variance) = elementwise(settings, kernel, COUNTS[y])
    assert abs(float(x.mean()) - mean) < shift * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=spread)
