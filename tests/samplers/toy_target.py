"""A Gaussian target of which everything is known."""

from __future__ import annotations

from math import sqrt

import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_samplers.target import GaussianTarget

SHAPE = (3, 64, 64)
SIGMA, TAU = 0.4, 0.3
CENTRE, Y = 0.2, 0.7
VARIANCE = 1 / (1 / SIGMA**2 + 1 / TAU**2)
MEAN = VARIANCE * (CENTRE / SIGMA**2 + Y / TAU**2)
Z = 4.5


def gaussian_target(scaled_operator, batch=4, shape=SHAPE, **place):
    return GaussianTarget(
        torch.full((batch, *shape), CENTRE),
        Isotropic(torch.tensor(SIGMA**2)),
        scaled_operator(1.0, TAU, shape),
        torch.full((batch, *shape), Y),
        sigma=SIGMA,
        likelihood_variance=TAU**2,
        **place,
    )


def exact_draw(batch=4, shape=SHAPE, seed=100):
    return MEAN + sqrt(VARIANCE) * RandomStreams(range(seed, seed + batch)).normal(shape)


def check_moments(x, mean, variance):
    n = x.numel()
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / n)
    assert abs(float(x.var()) - variance) < Z * variance * sqrt(2 / n)
