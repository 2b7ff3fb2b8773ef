"""Rounded and saturated values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from daps_kit.noise import GaussianNoise, PoissonNoise, RecordedNoise
from daps_kit.random import RandomStreams

F64 = torch.float64
CLEAN = torch.linspace(-1.3, 1.3, 53, dtype=F64).reshape(1, -1)


def test_values_are_levels_of_the_converter():
    noise = RecordedNoise(GaussianNoise(0.5), bits=3, clipped=(-0.5, 0.9))
    y = noise.sample(torch.zeros(2, 5000), RandomStreams([1, 2]))
    levels = torch.unique(y)
    torch.testing.assert_close(levels, torch.linspace(-0.5, 0.9, 8))


def test_the_range_is_black_to_white_where_none_is_stated():
    assert RecordedNoise(GaussianNoise(0.2), bits=8).low == -1
    of_magnitudes = RecordedNoise(PoissonNoise(9.0), bits=8).with_black(0.0)
    assert (of_magnitudes.low, of_magnitudes.noise.black) == (0, 0)
    assert of_magnitudes.with_black(-1.0).low == 0
    assert RecordedNoise(GaussianNoise(0.2), clipped=(-0.3, 2.0)).with_black(0.0).low == -0.3


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_probabilities_of_all_levels_sum_to_one(bits):
    for base in (GaussianNoise(0.3), PoissonNoise(12 * (2**bits - 1.0))):
        noise = RecordedNoise(base, bits=bits)
        levels = torch.linspace(-1, 1, 2**bits, dtype=F64)
        total = (
            noise.log_density(CLEAN[:, ::8], levels[:, None].expand(-1, CLEAN[:, ::8].shape[1])).exp().sum(0)
        )
        lit = CLEAN[0, ::8] > -0.99
        torch.testing.assert_close(total[lit], torch.ones_like(total[lit]), rtol=1e-6, atol=0)


def test_a_saturated_value_has_the_probability_of_all_beyond():
    noise = RecordedNoise(GaussianNoise(0.3), clipped=(-0.4, 0.6))
    high = noise.log_density(CLEAN, torch.full_like(CLEAN, 0.6))
    low = noise.log_density(CLEAN, torch.full_like(CLEAN, -0.4))
    inside = noise.log_density(CLEAN, torch.full_like(CLEAN, 0.1))
    np.testing.assert_allclose(high, norm.logsf(0.6, CLEAN, 0.3), rtol=1e-9)
    np.testing.assert_allclose(low, norm.logcdf(-0.4, CLEAN, 0.3), rtol=1e-9)
    np.testing.assert_allclose(inside, norm.logpdf(0.1, CLEAN, 0.3), rtol=1e-9)


def test_shares_of_draws_are_the_probabilities():
    noise = RecordedNoise(GaussianNoise(0.25), bits=3)
    n = 200_000
    y = noise.sample(torch.full((1, n), 0.4, dtype=F64), RandomStreams([5]))
    for level in torch.linspace(-1, 1, 8, dtype=F64):
        share = float(((y - level).abs() < 1e-6).double().mean())
        p = float(noise.log_density(torch.tensor([[0.4]], dtype=F64), level.reshape(1, 1)).exp())
        assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1e-9


def test_many_bits_are_the_noise_itself():
    base, noise = GaussianNoise(0.2), RecordedNoise(GaussianNoise(0.2), bits=14)
    y = noise.sample(CLEAN * 0.4, RandomStreams([1]))
    torch.testing.assert_close(noise.misfit(CLEAN, y), base.misfit(CLEAN, y), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(noise.misfit_grad(CLEAN, y), base.misfit_grad(CLEAN, y), rtol=1e-4, atol=1e-5)
