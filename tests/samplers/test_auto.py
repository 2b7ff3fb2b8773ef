"""The kernel that chooses: which one it takes, and that what that one says is handed on."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.noise import PoissonNoise
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_samplers.auto import Auto
from daps_samplers.exact import Exact
from daps_samplers.rto import RandomiseThenOptimise
from daps_samplers.target import GaussianTarget

SHAPE = (1, 4, 4)


def target(operator, y):
    centre = torch.zeros(len(y), *SHAPE)
    return GaussianTarget(
        centre, Isotropic(0.1), operator, y, sigma=0.5, level=2, levels=7, likelihood_variance=0.01
    )


@pytest.fixture
def problems(scaled_operator):
    """An operator for which each kernel is best."""
    linear, photons = scaled_operator(0.5, 0.1, SHAPE), scaled_operator(0.5, 0.1, SHAPE)
    photons.noise = PoissonNoise(30.0)
    return {"exact": linear, "photons": photons, "curved": HighDynamicRange(SHAPE, linear.noise, 2.0)}


def test_the_kernel_that_suits_is_taken_and_named(problems):
    chosen = {name: Auto().choose(operator) for name, operator in problems.items()}
    assert isinstance(chosen["exact"][0], Exact)
    assert isinstance(chosen["photons"][0], RandomiseThenOptimise)
    assert isinstance(chosen["curved"][0], RandomiseThenOptimise)
    assert (chosen["photons"][0].cg_steps, chosen["curved"][0].cg_steps) == (50, 5)
    for name, operator in problems.items():
        y = operator.forward(torch.zeros(2, *SHAPE))
        _, info = Auto().run(target(operator, y), y, RandomStreams([0, 1]))
        then = ", then draws pixel by pixel" if name == "curved" else ""
        assert info.notes == (f"sampler.kernel auto: {chosen[name][1]}{then}",)


@pytest.mark.parametrize("name", ["exact", "curved"])
def test_a_lost_sample_gets_the_advice_of_the_kernel_that_ran(problems, name):
    operator = problems[name]
    y = operator.forward(torch.zeros(3, *SHAPE))
    y[1] = torch.nan
    _, info = Auto().run(target(operator, y), torch.zeros(3, *SHAPE), RandomStreams(range(3)))
    (failure,) = info.failures
    kernel = Auto().choose(operator)[0]
    assert failure.advice == kernel.advice != Auto.advice
    assert (failure.sample, failure.level, failure.levels, failure.sigma) == (1, 2, 7, 0.5)
