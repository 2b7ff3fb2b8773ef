"""Images measured pixel by pixel: solutions against dense matrices, and the steps that they take."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import CosineCovariance
from daps_samplers import weighted
from daps_samplers.weighted import Weighted
from tests.falling_spectrum import SHAPE, falling, local

SIZE = math.prod(SHAPE)


def uniform(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scattered(share, *shape):
    return (uniform(1, *shape) < share).float() * 1e4


WEIGHTS = {
    "even": torch.full((1, *SHAPE), 30.0),
    "photons": 20 + 100 * uniform(0, 1, *SHAPE),
    "far apart": (12 * uniform(0, 1, *SHAPE) - 4).exp(),
    "half hidden": scattered(0.5, 1, 1, *SHAPE[1:]).expand(1, *SHAPE),
    "colours hidden": scattered(0.7, 1, *SHAPE),
    "one for each": scattered(0.6, 2, 1, *SHAPE[1:]).expand(2, *SHAPE) + 1,
}


def columns(apply, count):
    """Return the matrices of a linear map of images, one a sample, [count, n, n]."""
    unit = torch.eye(SIZE).reshape(SIZE, 1, *SHAPE)
    return torch.stack([apply(row.expand(count, *SHAPE)).flatten(1).double() for row in unit], 2)


@pytest.mark.parametrize("covariance", [falling, lambda: local(2)], ids=["even", "local"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_solutions_and_variances_against_dense_matrices(name, covariance):
    c, weight = covariance(), WEIGHTS[name]
    root = columns(c.sqrt, 2)
    g = weight.expand(2, *SHAPE).flatten(1).double()
    m = torch.eye(SIZE, dtype=torch.float64) + root.mT @ (g[:, :, None] * root)
    x = torch.linalg.inv(m)
    b = root.mT @ (g.sqrt() * RandomStreams([0, 1]).normal(SHAPE).flatten(1).double())[:, :, None]
    posterior = Weighted(c, weight)
    for accuracy in (0.1, 0.001):
        w, error = posterior.solve(b.reshape(2, *SHAPE).float(), accuracy=accuracy, max_steps=200)
        left = w.flatten(1).double()[:, :, None] - x @ b
        size = ((left.mT @ m @ left)[:, 0, 0] / SIZE).sqrt()
        assert bool((error <= accuracy * 1.01).all())
        assert bool((size <= error.double() + 1e-4).all()), "what it tells is about a bound"
    variances = (root @ x @ root.mT).diagonal(dim1=1, dim2=2)
    found = posterior.variances().expand(2, *SHAPE).flatten(1).double()
    # Closer than two random vectors tell, 0.4 to 0.7; pixels at the border have larger ones.
    assert float((found / variances - 1).abs().mean()) < (0.25 if name in ("even", "photons") else 0.45)


def steps(monkeypatch, power, weight):
    """Return how many products a solution takes."""
    products, inner = [0], weighted.conjugate_gradients

    def counted(apply, b, **options):
        def product(z):
            products[0] += 1
            return apply(z)

        return inner(product, b, **options)

    monkeypatch.setattr(weighted, "conjugate_gradients", counted)
    b = power.sqrt() * torch.randn(1, *power.shape, generator=torch.Generator().manual_seed(2))
    _, error = Weighted(CosineCovariance(power, torch.eye(len(power))), weight).solve(
        b * weight.amax() ** 0.5, accuracy=1e-3, max_steps=300
    )
    assert float(error) <= 1e-3
    return products[0]


@pytest.mark.parametrize(("share", "most"), [(1.0, 1), (0.9, 25), (0.5, 25), (0.2, 50)])
def test_few_steps_whatever_is_hidden(monkeypatch, share, most):
    """Variances as those of photographs fall, over four orders of magnitude."""
    f = torch.arange(64).float()
    power = (100 / (1 + f[:, None].square() + f.square()))[None]
    assert steps(monkeypatch, power, scattered(share, 1, 1, 64, 64)) <= most


def test_variances_of_colours_of_which_one_is_measured_far_better():
    """Pixels that know nothing of each other are matrices of three colours, whose inverse is exact."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    power = torch.tensor([0.5, 0.02, 0.005])
    shape = (3, 8, 8)
    weight = 2.0 * torch.ones(1, *shape)
    weight[:, 2] = 500
    found = Weighted(CosineCovariance(power.reshape(3, 1, 1).expand(shape), q), weight).variances()
    dense = torch.linalg.inv(q @ torch.diag(1 / power) @ q.T + torch.diag(weight[0, :, 0, 0]))
    torch.testing.assert_close(
        found, dense.diagonal().reshape(1, 3, 1, 1).expand_as(found), rtol=1e-3, atol=0
    )
    assert bool((weight * found < 1).all())
