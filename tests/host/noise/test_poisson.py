"""Photon noise: what only it has."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from daps_kit.noise import PoissonNoise
from daps_kit.random import RandomStreams


@pytest.mark.parametrize(("rate", "count"), [(1.0, 200.0), (3.0, 12.0), (10.0, 10.0), (80.0, 60.0)])
def test_exposures_are_drawn_from_the_inverse_of_a_gamma_distribution(rate, count):
    """A perturbed likelihood has e = k / G with k = r^2 / n and G from Gamma(1 + k, 1), by Kolmogorov and Smirnov."""
    noise = PoissonNoise(peak=100.0, black=0.0)
    like = torch.ones(4, 1, 200, 250)
    perturbed = noise.perturbed(rate / 100 * like, count / 100 * like, 1.0, RandomStreams(range(4)))
    excess = rate**2 / count
    draws = (excess / perturbed.e.double()).flatten().numpy()
    assert scipy.stats.kstest(draws, scipy.stats.gamma(1 + excess).cdf).pvalue > 1e-4
