"""Where levels go: the variance that is left against closed forms, and what is made of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import GaussianNoise
from daps_operators.mask import Inpainting
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps
from daps_samplers.placing import place, variance_left

SHAPE = (3, 16, 16)
S, NOISE = 0.5, 0.1
GEOMETRIC = [float(v) for v in torch.logspace(1, -1, 12, dtype=torch.float64)]


@pytest.fixture
def half() -> Inpainting:
    """Every second row is measured."""
    mask = torch.zeros(1, *SHAPE[1:])
    mask[:, ::2] = 1
    return Inpainting(SHAPE, GaussianNoise(NOISE), mask)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 10.0])
def test_the_variance_that_is_left_is_that_of_the_posterior(half: Inpainting, sigma: float) -> None:
    prior, y = GaussianPrior(torch.zeros(SHAPE), S), torch.zeros(1, *SHAPE)
    precision = 1 / S**2 + 1 / sigma**2
    expected = (1 / precision + 1 / (precision + 1 / NOISE**2)) / 2  # hidden and measured pixels
    assert variance_left(prior, half, y, SHAPE, sigma) == pytest.approx(expected, rel=0.01)


def test_levels_go_where_the_posterior_changes(half: Inpainting) -> None:
    prior, y = GaussianPrior(torch.zeros(SHAPE), 0.3), torch.zeros(2, *SHAPE)
    found = place(GEOMETRIC, prior, half, y, SHAPE)
    assert (found[0], found[-1], len(found)) == (GEOMETRIC[0], GEOMETRIC[-1], len(GEOMETRIC))
    assert all(a > b for a, b in pairwise(found))
    # The hidden pixels, of standard deviation 0.3, are decided around sigma 0.3, not beyond 1.
    assert sum(0.1 < sigma < 1 for sigma in found) > sum(0.1 < sigma < 1 for sigma in GEOMETRIC)


def test_between_two_levels_lies_the_same_share_of_the_change(half: Inpainting) -> None:
    """Nine tenths of the density over log sigma follow the root of the change of V, one tenth is even."""
    s = 0.3

    def v(sigma):
        precision = 1 / s**2 + 1 / sigma**2
        return (1 / precision + 1 / (precision + 1 / NOISE**2)) / 2

    nodes = np.geomspace(GEOMETRIC[0], GEOMETRIC[-1], 7)
    change = np.sqrt(v(nodes)[:-1] - v(nodes)[1:])
    density = 0.9 * change / change.mean() + 0.1
    found = place(GEOMETRIC, GaussianPrior(torch.zeros(SHAPE), s), half, torch.zeros(1, *SHAPE), SHAPE)
    fine = np.linspace(np.log(GEOMETRIC[-1]), np.log(GEOMETRIC[0]), 60_001)
    middle = (fine[1:] + fine[:-1]) / 2
    place_of = np.searchsorted(np.log(nodes[::-1]), middle) - 1
    mass = np.concatenate([[0.0], np.cumsum(density[::-1][place_of])])
    mass = np.interp(np.log(found), fine, mass / mass[-1])
    np.testing.assert_allclose(-np.diff(mass), 1 / 11, rtol=0.02)


def test_levels_stay_where_nothing_changes(half: Inpainting) -> None:
    class Constant(GaussianPrior):
        def denoising_covariance(self, sigma: float) -> Isotropic:
            return Isotropic(torch.tensor(0.1))

    y = torch.zeros(1, *SHAPE)
    assert place(GEOMETRIC, Constant(torch.zeros(SHAPE), S), half, y, SHAPE) == GEOMETRIC
    assert place(GEOMETRIC[:2], GaussianPrior(torch.zeros(SHAPE), S), half, y, SHAPE) == GEOMETRIC[:2]
    three = place(GEOMETRIC[:3], GaussianPrior(torch.zeros(SHAPE), S), half, y, SHAPE)
    assert three != GEOMETRIC[:3]


def test_levels_stay_where_nothing_is_known(scaled_operator: type, half: Inpainting) -> None:
    class Blind(GaussianPrior):
        def denoising_covariance(self, sigma: float) -> None:
            return None

    y = torch.zeros(1, *SHAPE)
    assert place(GEOMETRIC, Blind(torch.zeros(SHAPE), S), half, y, SHAPE) == GEOMETRIC


def test_a_schedule_that_is_asked_for_is_kept(half: Inpainting) -> None:
    prior, y = GaussianPrior(torch.zeros(SHAPE), 0.3), torch.zeros(1, *SHAPE)

    def levels(**annealing: object) -> list[float]:
        settings = dict(levels=9, sigma_max=10.0, sigma_min=0.1, **annealing)
        steps = Daps(annealing=settings).build().sample(prior, half, y, RandomStreams([0]))
        return [step.sigma for step in steps]

    expected = Daps(annealing={"use": "edm"}).annealing.schedule().sigmas(10.0, 0.1, 9)
    assert levels(use="edm") == pytest.approx([float(v) for v in expected])
    assert levels() != pytest.approx([float(v) for v in expected], rel=0.05)


class MaskOfEach(LinearOperator):
    """A mask for each image of a batch of two."""

    def __init__(self) -> None:
        super().__init__(SHAPE, GaussianNoise(NOISE))
        self.mask = torch.ones(2, 1, *SHAPE[1:])
        self.mask[1] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask * x

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.mask * y


def test_of_operators_with_parameters_for_each_image_the_mean_counts() -> None:
    prior, y = GaussianPrior(torch.zeros(SHAPE), S), torch.zeros(2, *SHAPE)
    precision = 1 / S**2 + 1
    expected = (1 / precision + 1 / (precision + 1 / NOISE**2)) / 2
    assert variance_left(prior, MaskOfEach(), y, SHAPE, 1.0) == pytest.approx(expected, rel=0.01)
