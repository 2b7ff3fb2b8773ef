"""The problems with known answers, against their definitions: what the checks compare with must itself be right."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from daps_kit.contracts import GaussianNoise, RandomStreams
from daps_kit.testing.base import orthogonal, tensor
from daps_kit.testing.problems import (
    SHAPE,
    SIZE,
    DenseCovariance,
    DenseOperator,
    DensePrior,
    GaussianProblem,
    Moments,
    Posterior,
    matrix_times,
    power,
)

DOUBLE = torch.float64


def positive(seed: int = 0) -> torch.Tensor:
    """A covariance with eigenvalues from 0.1 to 1."""
    basis = orthogonal(seed, SIZE)
    return basis * torch.linspace(0.1, 1, SIZE, dtype=DOUBLE) @ basis.T


def test_products_and_powers_of_matrices() -> None:
    c, v = positive(), tensor(1, (3, *SHAPE), DOUBLE)
    np.testing.assert_allclose(matrix_times(c, v).flatten(1), v.flatten(1).numpy() @ c.numpy().T, atol=1e-12)
    assert matrix_times(c[:5], v).shape == (3, 1, 1, 5)
    torch.testing.assert_close(power(c, 0.5) @ power(c, 0.5), c)
    torch.testing.assert_close(power(c, -1.0) @ c, torch.eye(SIZE, dtype=DOUBLE))
    covariance = DenseCovariance(c)
    torch.testing.assert_close(covariance.multiply(v), matrix_times(c, v))
    torch.testing.assert_close(covariance.precision(matrix_times(c, v)), v)


def test_the_operator_solves_its_normal_equations() -> None:
    matrix = tensor(2, (7, SIZE), DOUBLE)
    operator = DenseOperator(matrix, GaussianNoise(0.1))
    b = tensor(3, (3, *SHAPE), DOUBLE)
    for weight in (0.3, torch.tensor([0.3, 1.0, 2.0], dtype=DOUBLE)):
        x = operator.solve_normal(b, weight)
        weighted = torch.as_tensor(weight).reshape(-1, 1, 1, 1) * x
        torch.testing.assert_close(operator.adjoint(operator.forward(x)) + weighted, b)


def test_the_prior_is_that_of_its_draws() -> None:
    """Its denoiser is the regression of draws on their noisy versions, its covariance what that leaves open."""
    c, mean, sigma, count = positive(), tensor(4, (1, *SHAPE)), 0.7, 40_000
    prior = DensePrior(mean[0], c)
    x0 = prior.sample(SHAPE, RandomStreams(range(count))).double()
    np.testing.assert_allclose(torch.cov(x0.flatten(1).T), c, atol=4.5 * sqrt(2 / count))
    noisy = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    design = torch.cat([torch.ones(count, 1, dtype=DOUBLE), noisy.flatten(1)], 1)
    regression = design @ torch.linalg.lstsq(design, x0.flatten(1)).solution
    denoised = prior.denoise(noisy, sigma).flatten(1)
    assert float((denoised - regression).square().mean().sqrt()) < 3 * sqrt(SIZE / count)
    left = torch.cov((x0.flatten(1) - denoised).T)
    stated = prior.denoising_covariance(sigma)
    eye = torch.eye(SIZE, dtype=DOUBLE).reshape(SIZE, *SHAPE)
    np.testing.assert_allclose(left, stated.multiply(eye).flatten(1), atol=4.5 * sqrt(2 / count))
    assert prior.asked[-1] == sigma
    rows = torch.stack([prior.denoise(noisy[i : i + 1], level)[0] for i, level in enumerate((0.1, 2.0))])
    torch.testing.assert_close(prior.denoise(noisy[:2], torch.tensor([0.1, 2.0])), rows)


def test_the_posterior_is_that_of_bayes_rule() -> None:
    c, mu, v = positive(5), tensor(6, (1, *SHAPE), DOUBLE), 0.2
    operator = DenseOperator(tensor(7, (5, SIZE), DOUBLE), GaussianNoise(sqrt(v)))
    y = tensor(8, (1, 1, 1, 5), DOUBLE)
    posterior = Posterior.of(mu, c, operator, y, v)
    a = operator.matrix
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + v * torch.eye(5, dtype=DOUBLE))  # Kalman's form
    torch.testing.assert_close(posterior.mean, mu.flatten() + gain @ (y.flatten() - a @ mu.flatten()))
    torch.testing.assert_close(torch.linalg.inv(posterior.precision), c - gain @ a @ c)
    w = posterior.whiten(posterior.draw(RandomStreams(range(4000))))
    Moments(w).expect_mean(0.0, "draws")
    Moments(w).expect_covariance(0.0, "draws")


def test_the_target_has_the_density_of_the_posterior() -> None:
    problem = GaussianProblem.of(0.3, 0.05)
    target = problem.target(4, DOUBLE)
    x = problem.posterior.mean.reshape(1, *SHAPE) + tensor(9, (4, *SHAPE), DOUBLE)
    log_density, gradient = target.log_density_grad(x)
    quadratic = -problem.posterior.whiten(x).square().sum(1) / 2
    torch.testing.assert_close(log_density - log_density[0], quadratic - quadratic[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(target.log_density(x), log_density)
    difference = problem.posterior.mean - x.flatten(1)
    torch.testing.assert_close(
        gradient.flatten(1), difference @ problem.posterior.precision, rtol=1e-5, atol=1e-5
    )
    values = torch.linalg.eigvalsh(torch.linalg.inv(problem.posterior.precision)) / 0.3
    assert float(values.min()) > 0.999
    assert float(values.max()) < 4.001


@pytest.mark.parametrize(
    ("shift", "factor", "message"),
    [(0.3, 1.0, "deviations off"), (0.0, 1.1, "variance is"), (0.0, 0.9, "variance is")],
)
def test_moments_that_are_off_are_seen_and_right_ones_are_not(
    shift: float, factor: float, message: str
) -> None:
    w = torch.randn(3000, SIZE, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    Moments(w).expect_mean(0.0, "right")
    Moments(w).expect_covariance(0.0, "right")
    off = Moments(factor * w + shift * (torch.arange(SIZE) == 3))
    with pytest.raises(AssertionError, match=f"wrong: .*{message}"):
        (off.expect_mean if shift else off.expect_covariance)(0.0, "wrong")
    off.expect_mean(0.31, "allowed")
    off.expect_covariance(0.22, "allowed")


def test_correlations_are_seen() -> None:
    w = torch.randn(3000, SIZE, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    w[:, 2] = (w[:, 2] + 0.2 * w[:, 5]) / sqrt(1.04)
    with pytest.raises(AssertionError, match="an entry of the covariance is 0.2"):
        Moments(w).expect_covariance(0.0, "wrong")
