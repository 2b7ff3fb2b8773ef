"""What many samples say together: closed forms for Gaussian samples, and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from daps_kit.runs.ensemble import coverage_due, crps, medoid, moments, posterior_mean, spread_scores


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_crps_of_a_gaussian_whatever_the_number_of_samples() -> None:
    """CRPS(N(0, s^2), t) = s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = t / s (Gneiting et al. 2005)."""
    s = 0.3
    for t in (-0.5, 0.0, 0.2):
        z = t / s
        phi, cumulative = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), (1 + math.erf(z / math.sqrt(2))) / 2
        exact = s * (z * (2 * cumulative - 1) + 2 * phi - 1 / math.sqrt(math.pi))
        for count in (2, 3, 20):
            found = crps(s * normal(count, count, 200_000), torch.full((200_000,), t, dtype=torch.float64))
            error = float(found.std()) / math.sqrt(found.numel())
            assert float(found.mean()) == pytest.approx(exact, abs=4 * error)
            assert error < 0.001


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("count", [2, 4, 32])
def test_the_posterior_mean_has_the_least_risk(count: int, bias: float) -> None:
    """x = a - b + e, a ~ N(b, .1^2), e ~ N(0, .2^2): (1-l) x + l a is (.01 + (1-l)^2 .04) / R + l^2 b^2 off, squared."""
    pixels = (3, 200, 200)
    averages = bias + 0.1 * normal(1, count, *pixels)
    samples = averages - bias + 0.2 * normal(2, count, *pixels)
    risk = min((0.01 + (1 - s) ** 2 * 0.04) / count + s**2 * bias**2 for s in np.linspace(0, 1, 1001))
    found = float(posterior_mean(samples, averages).square().mean())
    assert found == pytest.approx(risk, rel=0.03)


def test_the_posterior_mean_of_one_sample_and_of_what_is_alike() -> None:
    x = normal(0, 1, 3, 4)
    assert torch.equal(posterior_mean(x, x + 1), x[0] + 1)
    assert torch.equal(posterior_mean(x), x[0])
    both = x.expand(2, 3, 4)
    assert torch.equal(posterior_mean(both, both), x[0])
    # What varies more than the samples is left alone.
    many = normal(1, 8, 1, 20, 20)
    torch.testing.assert_close(posterior_mean(many, 3 * many), many.mean(0))


def test_averages_that_were_not_drawn_are_the_posterior_mean() -> None:
    """Samples .3 off their posterior's mean, 0, which a formula gives, or a formula with a number that is drawn."""
    samples = 0.3 + normal(1, 4, 3, 40, 40)
    said = torch.zeros_like(samples)
    assert torch.equal(posterior_mean(samples, said), said[0])
    torch.testing.assert_close(
        posterior_mean(samples, said + 0.05 * normal(2, 4, 1, 1, 1)), said[0], atol=0.1, rtol=0
    )
    # Of fifty draws one cannot know.
    chain = normal(3, 50, *samples.shape).mean(0)
    assert 0.05 < float(posterior_mean(samples, chain).mean()) < 0.25


def test_the_crps_by_its_double_sum() -> None:
    x, t = normal(0, 5, 7), normal(1, 7)
    apart = (x[:, None] - x[None]).abs().sum((0, 1)) / (2 * 5 * 4)
    torch.testing.assert_close(crps(x, t), (x - t).abs().mean(0) - apart)


@pytest.mark.parametrize(
    ("count", "due"), [(2, 1 / 3), (4, 0.6), (18, 17 / 19), (19, 0.9), (38, 37 / 39), (39, 0.9), (99, 0.9)]
)
def test_exact_posteriors_cover_what_is_due(count: int, due: float) -> None:
    """x ~ N(0, 1), y = x + n, n ~ N(0, .5^2): x | y ~ N(y / 1.25, .2), of which truth and samples are drawn."""
    assert coverage_due(count) == pytest.approx(due)
    pixels = (1, 150, 200)
    truth = normal(1, *pixels)
    y = truth + 0.5 * normal(2, *pixels)
    samples = y / 1.25 + math.sqrt(0.2) * normal(3, count, *pixels)
    found = spread_scores(samples, truth)
    assert found is not None
    assert found["coverage"] == pytest.approx(due, abs=4 * math.sqrt(due * (1 - due) / truth.numel()))
    assert found["coverage_due"] == pytest.approx(due)
    assert found["spread_error"] == pytest.approx(1, abs=0.025)
    # The mean of the posterior is E|t - y / 1.25|^2 = .2 off, whatever the number of samples.
    inside = spread_scores(0.05 * samples, 0.05 * truth)
    assert inside is not None
    exact = -10 * math.log10(0.2 * 0.05**2 / 4)
    assert inside["psnr_corrected"] == pytest.approx(exact, abs=0.12)
    narrow = spread_scores(y / 1.25 + 0.5 * (samples - y / 1.25), truth)
    assert narrow is not None
    assert narrow["coverage"] < due - 0.03
    assert narrow["spread_error"] < 0.65 + 0.3 / count
    assert narrow["crps"] > found["crps"]


def test_one_sample_has_no_spread() -> None:
    assert spread_scores(normal(0, 1, 1, 4, 4), normal(1, 1, 4, 4)) is None
    one = normal(0, 1, 1, 4, 4)
    assert moments(one) == moments(one[:0]) == {}
    assert list(moments(one, averages=one)) == ["mean"]


def test_quantiles_are_those_of_numpy() -> None:
    x = normal(0, 6, 3, 4, 5)
    found = moments(x)
    for name, level in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        np.testing.assert_allclose(found[name], np.quantile(x.numpy(), level, axis=0))
    np.testing.assert_allclose(found["std"], x.numpy().std(0, ddof=1))


def test_the_medoid_by_all_distances() -> None:
    for seed in range(5):
        x = normal(seed, 7, 1, 3, 3)
        apart = (x[:, None] - x[None]).square().flatten(2).sum((1, 2))
        assert medoid(x) == int(apart.argmin())
