"""The Gaussian prior against Bayes' rule."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.errors import ComponentError
from daps_priors.exact.gaussian import GaussianPrior
from tests.priors.exact.normal import SHAPE, D, bayes


@pytest.mark.parametrize("sigma", [0.01, 0.5, 30.0])
def test_the_denoiser_is_the_posterior_mean(mean, covariance, sigma):
    x = mean + 2 * torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    std = (0.1 + torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))).double()
    for prior, matrix in (
        (GaussianPrior(mean, covariance=covariance), covariance),
        (GaussianPrior(mean, 0.4), 0.16 * torch.eye(D, dtype=torch.float64)),
        (GaussianPrior(mean, std), torch.diag(std.flatten() ** 2)),
    ):
        torch.testing.assert_close(
            prior.denoise(x, sigma), bayes(x, sigma, mean, matrix), rtol=1e-9, atol=1e-9
        )
        each = prior.denoise(x, torch.tensor([sigma, 1.0, 2.0], dtype=torch.float64))
        torch.testing.assert_close(each[:1], prior.denoise(x[:1], sigma))
        torch.testing.assert_close(each[2:], prior.denoise(x[2:], 2.0))


def test_the_score_is_that_of_the_density_of_x_t(mean, covariance):
    x = mean + torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrix = covariance + 0.3**2 * torch.eye(D, dtype=torch.float64)
    expected = -torch.linalg.solve(matrix, (x - mean).flatten(1).T).T.reshape(x.shape)
    torch.testing.assert_close(GaussianPrior(mean, covariance=covariance).score(x, 0.3), expected)


def test_the_denoising_covariance_is_the_posterior_covariance(mean, covariance):
    sigma = 0.7
    expected = torch.linalg.inv(torch.linalg.inv(covariance) + torch.eye(D, dtype=torch.float64) / sigma**2)
    found = GaussianPrior(mean, covariance=covariance).denoising_covariance(sigma)
    assert found.isotropic is None
    basis = torch.eye(D, dtype=torch.float64).reshape(D, *SHAPE)
    torch.testing.assert_close(found.sqrt(found.sqrt(basis)).flatten(1), expected)
    torch.testing.assert_close(found.precision(basis).flatten(1), torch.linalg.inv(expected))
    least, draw = found.independent()
    assert float(least) == pytest.approx(float(torch.linalg.eigvalsh(expected).min()))
    torch.testing.assert_close(
        draw(lambda: draw(lambda: basis)).flatten(1),
        least * torch.eye(D, dtype=torch.float64) - least**2 * torch.linalg.inv(expected),
    )
    plain = GaussianPrior(0.0, 0.5).denoising_covariance(sigma)
    assert plain.independent()[0] is plain.variances
    assert float(plain.isotropic) == pytest.approx(0.25 * 0.49 / (0.25 + 0.49))


def test_samples_have_its_moments(mean, covariance):
    batch = 4000
    x = GaussianPrior(mean, covariance=covariance).sample(SHAPE, RandomStreams(range(batch))).double()
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (x - mean).flatten(1).T, upper=False
    )
    assert float(white.mean(1).abs().max()) < 4.5 / sqrt(batch)
    error = white @ white.T / batch - torch.eye(D, dtype=torch.float64)
    assert float(error.abs().max()) < 4.5 * sqrt(2 / batch)


def test_single_precision_in_single_precision_out():
    x = torch.randn(2, 3, 5, 5)
    prior = GaussianPrior(0.1, 0.5)
    assert prior.denoise(x, 0.3).dtype == torch.float32
    assert prior.sample((3, 5, 5), RandomStreams([0])).dtype == torch.float32
    assert prior.shape is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianPrior(), "either std or covariance"),
        (lambda: GaussianPrior(0.0, -1.0), "positive"),
        (lambda: GaussianPrior(torch.zeros(1, 2, 2), torch.ones(1, 2, 3)), "one shape"),
        (lambda: GaussianPrior(torch.zeros(4), 1.0), r"\[C, H, W\]"),
        (lambda: GaussianPrior(0.0, covariance=torch.ones(2, 3)), "square"),
        (lambda: GaussianPrior(torch.zeros(1, 1, 3), covariance=torch.eye(2)), "does not fit"),
        (lambda: GaussianPrior(0.0, covariance=torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: GaussianPrior(0.0, covariance=torch.ones(2, 2)), "positive definite"),
    ],
)
def test_impossible_priors_are_refused(make, message):
    with pytest.raises(ComponentError, match=message):
        make()
