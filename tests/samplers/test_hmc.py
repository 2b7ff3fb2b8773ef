"""The mass matrix of HMC: the operator's normal diagonal where that is all there is, else the prior's covariance alone."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import GaussianNoise
from daps_operators.mask import Inpainting
from daps_samplers import HMC
from daps_samplers.hmc import diagonal_scale
from daps_samplers.target import GaussianTarget
from daps_samplers.whitened import Linearised, Whitened
from tests.samplers.closed_form import make

SHAPE = (3, 16, 16)
C, NOISE = 0.25, 0.005


def half() -> Inpainting:
    mask = torch.zeros(1, *SHAPE[1:])
    mask[:, ::2] = 1
    return Inpainting(SHAPE, GaussianNoise(NOISE), mask)


def target_of(operator: LinearOperator, batch: int = 1) -> GaussianTarget:
    zeros = torch.zeros(batch, *operator.shape)
    y = operator.forward(zeros)
    covariance = Isotropic(torch.tensor(C))
    return GaussianTarget(zeros, covariance, operator, y, sigma=1.0, likelihood_variance=NOISE**2)


def test_the_scale_is_the_diagonal_of_a_mask_and_one_for_a_blur() -> None:
    operator = half()
    target = target_of(operator)
    found = diagonal_scale(Linearised(Whitened(target), target.centre, 1 / NOISE**2))
    expected = (1 + operator.forward(torch.ones(1, *SHAPE)) * C / NOISE**2).rsqrt()
    torch.testing.assert_close(found, expected)
    target = target_of(make("gaussian_blur"))
    found = diagonal_scale(Linearised(Whitened(target), target.centre, 1 / NOISE**2))
    assert torch.equal(found, torch.ones_like(found))


def test_hidden_pixels_mix_however_exact_the_others_are_measured() -> None:
    """Their variance is 2500 times the noise's: with one step size for all they would hardly move."""
    target = target_of(half(), batch=8)
    start = target.centre
    x, info = HMC(steps=20).build().run(target, start, RandomStreams(range(8)))
    measured = half().forward(torch.ones(1, *SHAPE)).bool().expand_as(x)
    assert float(x[~measured].var()) == pytest.approx(C, rel=0.1)
    assert float(x[measured].var()) == pytest.approx(1 / (1 / C + 1 / NOISE**2), rel=0.1)
    assert float(info.acceptance.mean()) > 0.4
