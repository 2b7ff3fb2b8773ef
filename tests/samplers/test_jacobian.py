"""The covariance by the derivative of the denoiser, against a Gaussian prior, for which it is exact."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.linalg import inner
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.conditional import Conditional
from daps_samplers.exact import Exact
from daps_samplers.jacobian import DenoiserCovariance, lanczos_sqrt
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM

SHAPE, SIGMA = (1, 3, 4), 0.7


@pytest.fixture(scope="module")
def prior():
    draw = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=torch.float64))
    matrix = basis @ torch.diag(torch.logspace(-3, 0.5, 12, dtype=torch.float64)) @ basis.T
    return GaussianPrior(torch.full(SHAPE, 0.2, dtype=torch.float64), covariance=matrix)


def test_products_are_those_of_the_known_covariance(prior):
    x, v = (RandomStreams(seeds).normal(SHAPE, torch.float64) for seeds in ([1, 2], [3, 4]))
    found, known = DenoiserCovariance(prior, x, SIGMA), prior.denoising_covariance(SIGMA)
    torch.testing.assert_close(found.multiply(v), known.multiply(v))
    torch.testing.assert_close(found.sqrt(v), known.sqrt(v), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.precision(v), known.precision(v), rtol=1e-3, atol=1e-3)


def test_draws_of_a_level_are_those_with_the_known_covariance(prior, scaled_operator):
    operator, direct = scaled_operator(0.8, 0.1, SHAPE), ProbabilityFlow(EDM(), 0)
    x_t = RandomStreams([1, 2]).normal(SHAPE, torch.float64)
    draws = []
    for spread in ("calibrated", "jacobian"):
        conditional = Conditional(direct, spread=spread)
        y = torch.full((2, *SHAPE), 0.9, dtype=torch.float64)
        target = conditional.target(prior, operator, y, x_t, prior.denoise(x_t, SIGMA), SIGMA)
        draws.append(Exact(accuracy=1e-6).run(target, target.centre, RandomStreams([5, 6]))[0])
    torch.testing.assert_close(draws[1], draws[0], rtol=1e-4, atol=1e-5)
    assert Conditional(direct, spread="jacobian").calls == 2


def test_the_root_of_few_eigenvalues_takes_as_many_steps():
    values = torch.tensor([0.0, 0.04, 1.0]).repeat(20)
    v = RandomStreams([7, 8]).normal((60,))
    products = []

    def multiply(u):
        products.append(u)
        return u * values

    torch.testing.assert_close(lanczos_sqrt(multiply, v, 30), v * values.sqrt(), rtol=1e-4, atol=1e-5)
    assert len(products) <= 4
    nothing = lanczos_sqrt(multiply, torch.zeros_like(v), 30)
    assert float(inner(nothing, nothing).max()) == 0
