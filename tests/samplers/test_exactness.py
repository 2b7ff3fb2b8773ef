"""Kernels against posteriors that are known: Gaussian ones in closed form, others by quadrature.

With the Gaussian prior x0 ~ N(mu, Sigma), a linear operator A (as a matrix) and noise of variance v,

    P = Sigma^{-1} + A^T A / v,     p(x0 | y) = N(mu + P^{-1} A^T (y - A mu) / v, P^{-1}),

and DAPS with the prior's own covariance and an exact kernel draws from it at every level. Samples are compared in the
coordinates P^{1/2} (x - mean), in which the posterior is N(0, I). z-tests use 4.5 standard errors.
"""

from __future__ import annotations

from math import sqrt

import pytest
import torch

import daps_operators
from daps_kit.contracts import RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.errors import ComponentError
from daps_kit.settings import GaussianNoiseSettings
from daps_operators.noises import Poisson
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import (
    HMC,
    MALA,
    Auto,
    Daps,
    Exact,
    Langevin,
    RandomiseThenOptimise,
)
from daps_samplers.target import GaussianTarget
from tests.samplers.closed_form import (
    COUNTS,
    LINEAR,
    NOISE,
    SHAPE,
    SIZE,
    Z,
    check_standard_normal,
    elementwise,
    make,
    smooth_prior,
    whitened_draws,
)

KERNELS = {
    "exact": Exact(accuracy=1e-3),
    "rto": RandomiseThenOptimise(newton_steps=1, cg_steps=100, accuracy=1e-3),
    "auto": Auto(),
    "hmc": HMC(steps=30),
    "mala": MALA(steps=120),
    "langevin": Langevin(steps=250),
}


def _cases():
    """Every kernel with every linear operator; the slow ones of them are marked."""
    for name in LINEAR:
        for kernel in KERNELS:
            slow = name not in ("box", "gaussian_blur") or (
                kernel in ("hmc", "mala", "langevin") and name != "box"
            )
            yield pytest.param(name, kernel, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("name", "kernel"), list(_cases()))
def test_the_posterior_of_a_gaussian_prior(name, kernel):
    prior, operator = smooth_prior(), make(name)
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    adjusted = kernel in ("hmc", "mala", "langevin")
    count, levels = (200, 3) if adjusted else (1000, 5)
    sampler = Daps(
        annealing=dict(levels=levels, sigma_min=0.2), kernel=KERNELS[kernel], final_denoise=False
    ).build()
    steps = list(sampler.sample(prior, operator, y.expand(count, -1, -1, -1), RandomStreams(range(count))))
    # The chain of unadjusted Langevin is at most 2.6 % too wide, in the stiffest direction.
    allowance = {"langevin": 0.015, "hmc": 0.01, "mala": 0.01}.get(kernel, 0.0)
    check_standard_normal(whitened_draws(steps[-1].x0y, prior, operator, y), allowance)


@pytest.mark.parametrize("name", LINEAR)
def test_the_closed_form_where_the_covariance_is_isotropic(name):
    prior = GaussianPrior(torch.full(SHAPE, 0.2), covariance=0.15 * torch.eye(SIZE))
    operator, count = make(name), 1500
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    many = y.expand(count, -1, -1, -1)
    centre = prior.mean.float().expand(count, -1, -1, -1)
    target = GaussianTarget(
        centre, Isotropic(torch.tensor(0.15)), operator, many, sigma=1.0, likelihood_variance=NOISE**2
    )
    x, info = Exact().build().run(target, centre, RandomStreams(range(count)))
    assert info.error is None
    check_standard_normal(whitened_draws(x, prior, operator, y))


ADJUSTED = {"hmc": HMC(steps=60), "mala": MALA(steps=200)}


@pytest.mark.parametrize("kernel", ADJUSTED)
@pytest.mark.parametrize("y", [0.3, 1.1])
def test_adjusted_kernels_are_exact_for_clipped_measurements(kernel, y):
    settings = daps_operators.HighDynamicRange(noise=GaussianNoiseSettings(sigma=NOISE))
    x, (mean, variance) = elementwise(settings, ADJUSTED[kernel], y)
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / x.numel()) + 0.01 * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=0.03 + Z * sqrt(2 / x.numel()))


@pytest.mark.parametrize("kernel", ADJUSTED)
@pytest.mark.parametrize("y", COUNTS)
def test_adjusted_kernels_are_exact_for_photon_noise(kernel, y):
    settings = daps_operators.Identity(noise=Poisson(peak=40.0))
    x, (mean, variance) = elementwise(settings, ADJUSTED[kernel], COUNTS[y])
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / x.numel()) + 0.01 * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=0.03 + Z * sqrt(2 / x.numel()))


def test_exact_draws_need_a_linear_operator():
    settings = daps_operators.HighDynamicRange()
    with pytest.raises(ComponentError, match="'exact' needs a linear operator"):
        elementwise(settings, Exact(), 0.3, count=2)
