"""Score-KSD against autograd, quadrature, closed forms of Gaussians, and the chance of right samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.compare.matrix import Matrix
from daps_kit.compare.mixture import MixtureOfGaussians
from daps_kit.compare.posteriors import known_posterior
from daps_kit.contracts import GaussianNoise, Noise, Operator, Prior, Shape
from daps_kit.functions import make_operator
from daps_kit.runs.stein import (
    ScoreKSD,
    noise_level,
    posterior_score,
    score_ksd,
    stein_discrepancy,
    stein_kernel,
)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_kernel_is_what_autograd_makes_of_the_inverse_multiquadric() -> None:
    x, s = normal(0, 4, 3), normal(1, 4, 3)
    square = torch.cdist(x, x).square()
    width = square[~torch.eye(4, dtype=torch.bool)].median()

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (1 + (a - b).square().sum() / width) ** -0.5

    def u(i: int, j: int) -> Tensor:
        at = (x[i].clone().requires_grad_(), x[j].clone().requires_grad_())
        value = k(*at)
        first, second = torch.autograd.grad(value, at, create_graph=True)
        mixed = sum(torch.autograd.grad(first[e], at[1], retain_graph=True)[0][e] for e in range(3))
        return (s[i] @ s[j] * value + s[i] @ second + s[j] @ first + mixed).detach()

    wanted = torch.stack([torch.stack([u(i, j) for j in range(4)]) for i in range(4)])
    torch.testing.assert_close(stein_kernel(x[:, None], s[:, None]), wanted)


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_shifted_gaussian_has_the_discrepancy_of_quadrature(shift: float) -> None:
    # The scores of N(0, I) and N(m, I) differ by m everywhere: KSD^2 = |m|^2 E k. In two dimensions |x - x'|^2 = 4 t
    # with t ~ Exp(1), and its median is 4 log 2.
    count = 1000
    x = normal(2, count, 2) + shift / 2**0.5
    found = stein_discrepancy(x, -x)
    t, weights = np.polynomial.laguerre.laggauss(60)
    wanted = shift**2 * float(weights @ (1 + t / math.log(2)) ** -0.5)
    rows = stein_kernel(x, -x).fill_diagonal_(0).sum(1) / (count - 1)
    error = 2 * float(rows.std()) / count**0.5
    assert float(found.squared) == pytest.approx(wanted, abs=4 * error)
    assert error < 0.01 + 0.03 * wanted
    assert (float(found.z) > 10) == (shift > 0)


def made(
    function: Callable[[Tensor], Tensor], shape: Shape, noise: Noise, *, linear: bool = False
) -> Operator:
    device = torch.device("cpu")
    return make_operator(function, shape, noise, linear=linear, label="function", device=device)


def gaussian_posterior() -> tuple[Prior, Operator, Tensor, Tensor, Tensor]:
    """A prior over 2 x 3 pixels, blurred and masked ones of which are seen; mean and covariance of x0 + sigma n given y."""
    root = normal(3, 6, 6) / 3
    mean, covariance = normal(4, 1, 2, 3) / 5, root @ root.T + 0.01 * torch.eye(6)
    prior = daps_kit.build("prior", {"use": "gaussian", "std": 1.0})
    prior = type(prior)(mean, covariance=covariance)
    sd = torch.tensor([[[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]], dtype=torch.float64)
    matrix = normal(5, 6, 6) / 2
    y = normal(6, 1, 2, 3) / 2
    operator = made(
        lambda x: (x.flatten(1) @ matrix.to(x).T).reshape(x.shape), (1, 2, 3), GaussianNoise(sd), linear=True
    )
    operator.observed = torch.tensor([[[1.0, 1, 0], [1, 0, 1]]])
    seen = operator.observed.flatten().bool()
    a, noise = matrix[seen], torch.diag(sd.flatten()[seen] ** 2)
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + noise)
    centre = mean.flatten() + gain @ (y.flatten()[seen] - a @ mean.flatten())
    return prior, operator, y * operator.observed, centre, covariance - gain @ a @ covariance


@pytest.mark.parametrize("sigma", [0.02, 0.5])
def test_the_score_is_exact_for_a_gaussian(sigma: float) -> None:
    prior, operator, y, mean, covariance = gaussian_posterior()
    x = normal(7, 5, 1, 2, 3)
    wanted = -torch.linalg.solve(
        covariance + sigma**2 * torch.eye(6, dtype=torch.float64), (x.flatten(1) - mean).T
    ).T
    found = posterior_score(prior, operator, y, x, sigma)
    torch.testing.assert_close(found.flatten(1), wanted, rtol=1e-4, atol=1e-4)


NONLINEAR = {
    "saturating": (lambda x: torch.tanh(2 * x), {"use": "gaussian", "sigma": 0.2}, [0.5, -0.3, 0.9]),
    "counts": (lambda x: x, {"use": "poisson", "peak": 20}, [0.1, -0.6, 0.4]),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_score_of_other_operators_is_that_of_quadrature_for_small_noise(name: str) -> None:
    function, noise, values = NONLINEAR[name]
    operator = made(function, (1, 1, 3), daps_kit.build("noise", noise))
    prior = daps_kit.build("prior", {"use": "gaussian", "mean": 0.1, "std": 0.4})
    sigma, y, x = 0.03, torch.tensor([[values]]).double(), torch.tensor([[[[0.2, -0.4, 0.3]]]]).double()
    # Each entry by itself: p(x_s, y) = int N(x0; .1, .4^2) N(x_s; x0, sigma^2) p(y | x0) dx0, differentiated.
    x0 = torch.linspace(-0.25, 0.25, 4001, dtype=torch.float64)[:, None, None, None] + x
    leaf = x.clone().requires_grad_()
    log = (
        operator.noise.log_density(operator.forward(x0), y.expand(len(x0), 1, 1, 3))
        - (x0 - 0.1) ** 2 / (2 * 0.4**2)
        - (leaf - x0) ** 2 / (2 * sigma**2)
    )
    (wanted,) = torch.autograd.grad(log.logsumexp(0).sum(), leaf)
    found = posterior_score(prior, operator, y, x, sigma)
    plain = (x - 0.1) / -(0.4**2 + sigma**2)
    assert float((found - wanted).norm() / (wanted - plain).norm()) < 0.02


def discrepancies(stated: float, repetitions: int) -> ScoreKSD:
    """Those of samples of a posterior whose noise is taken to be `stated` times what it is."""
    known = known_posterior("gaussian", 0)
    assert isinstance(known.prior, MixtureOfGaussians)
    assert isinstance(known.operator, Matrix)
    taken = known.prior.given(Matrix(known.operator.matrix, stated * known.operator.sigma), known.y)
    draw = torch.Generator().manual_seed(8)
    found = [
        torch.stack(
            score_ksd(known.prior, known.operator, known.y, taken.draw(16, draw)[:, None, None], seed=seed)
        )
        for seed in range(repetitions)
    ]
    return ScoreKSD(*torch.stack(found, 1))


def test_right_samples_have_none_on_average() -> None:
    right = discrepancies(1.0, 150)
    assert abs(float(right.squared.mean())) < 4 * float(right.squared.std()) / 150**0.5
    assert abs(float(right.z.mean())) < 4 / 150**0.5
    assert 0.8 < float(right.z.std()) < 1.2
    assert abs(float(right.spread.mean()) - 1) < 4 * float(right.spread.std()) / 150**0.5


def test_the_spread_is_the_variance_over_that_of_the_density() -> None:
    # Of N(m, diag(a)) from N(0, diag(b)), -E s^T (x - E x) / d is the mean of a / b.
    a, b = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([1.0, 0.5, 3.0])
    x = 3 + a.sqrt() * normal(9, 4_000, 3)
    found = torch.stack([stein_discrepancy(part, -part[:, None] / b).spread for part in torch.split(x, 200)])
    assert float(found.mean()) == pytest.approx(float((a / b).mean()), abs=4 * float(found.std()) / 20**0.5)
    assert float(found.std()) < 0.4


def test_samples_for_another_noise_have_some() -> None:
    right, wrong = discrepancies(1.0, 40), discrepancies(3.0, 40)
    assert float((wrong.z[:, None] > right.z).double().mean()) > 0.75
    assert float(wrong.squared.mean()) > 5 * float(wrong.squared.std()) / 40**0.5


def test_noise_belongs_to_the_sample_and_batches_change_nothing() -> None:
    known = known_posterior("gaussian", 1)
    samples = known.exact(6, 0)[:, None, None]
    whole, parts, other = (
        score_ksd(known.prior, known.operator, known.y, samples, 0.1, seed=seed, batch_size=size)
        for seed, size in ((0, None), (0, 4), (1, None))
    )
    torch.testing.assert_close(whole.squared, parts.squared)
    assert float(whole.squared) != float(other.squared)


def test_the_noise_level_is_a_share_of_that_of_the_measurement_within_the_prior() -> None:
    known = known_posterior("gaussian", 0)
    assert noise_level(known.prior, known.operator, known.y) == pytest.approx(0.4 * 0.05)
    prior = daps_kit.build("prior", {"use": "gaussian", "std": 1.0})
    prior.sigma_range = (0.03, 80.0)
    assert noise_level(prior, known.operator, known.y) == 0.03
