"""Total variation against closed forms and another optimiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from daps_rivals.tv import differences, differences_adjoint
from scipy.optimize import minimize

from daps_kit import build
from daps_kit.contracts import GaussianNoise, RandomStreams
from daps_kit.testing.base import tensor
from daps_kit.testing.problems import DenseOperator, DensePrior


def estimate(a, y, shape, sigma, weight):
    operator = DenseOperator(a, GaussianNoise(sigma), shape)
    size = a.shape[1]
    prior = DensePrior(torch.zeros(size), torch.eye(size), shape)
    sampler = build("sampler", {"use": "tv", "steps": 3000, "weight": weight})
    *_, last = sampler.sample(prior, operator, y.reshape(1, 1, 1, -1), RandomStreams([0]))
    assert prior.asked == []
    return last.x0y[0]


def test_the_adjoint_is_one():
    x, p = tensor(1, (2, 3, 5, 4), torch.float64), tensor(2, (2, 2, 3, 5, 4), torch.float64)
    assert float((differences(x) * p).sum()) == pytest.approx(float((x * differences_adjoint(p)).sum()))


def test_a_step_is_lowered_by_what_its_sides_pay():
    """Of a row a a b b each side moves towards the other by lambda sigma^2 over its length."""
    y = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    got = estimate(torch.eye(4, dtype=torch.float64), y, (1, 1, 4), 0.2, 5.0)
    torch.testing.assert_close(
        got.flatten(), torch.tensor([0.1, 0.1, 0.9, 0.9], dtype=torch.float64), atol=1e-4, rtol=0
    )


def test_it_is_where_another_optimiser_ends():
    shape, sigma, weight = (2, 3, 3), 0.3, 2.0
    a, y = tensor(3, (10, 18), torch.float64), tensor(4, (10,), torch.float64)
    got = estimate(a, y, shape, sigma, weight)

    def objective(flat, small=1e-10):
        x = flat.reshape(shape)
        right, below = np.zeros(shape), np.zeros(shape)
        right[:, :, :-1], below[:, :-1] = np.diff(x, axis=2), np.diff(x, axis=1)
        variation = np.sqrt((right**2 + below**2).sum(0) + small).sum()
        return ((a.numpy() @ flat - y.numpy()) ** 2).sum() / (2 * sigma**2) + weight * variation

    found = minimize(objective, np.zeros(18), method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 10**6})
    assert objective(got.numpy().flatten(), 0.0) <= found.fun + 1e-3
