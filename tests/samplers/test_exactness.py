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
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.covariance import Isotropic
from daps_kit.errors import ComponentError
from daps_kit.settings import GaussianNoiseSettings, PoissonNoiseSettings
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import (
    HMC,
    MALA,
    AnnealingSettings,
    Auto,
    Daps,
    Exact,
    Langevin,
    RandomiseThenOptimise,
)
from daps_samplers.target import GaussianTarget
from daps_samplers.whitened import Linearised, Whitened

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
SIZE = 64
NOISE = 0.2
Z = 4.5

LINEAR = {
    "identity": daps_operators.Identity,
    "box": lambda noise: daps_operators.Inpainting(noise=noise),
    "random": lambda noise: daps_operators.Inpainting(noise=noise, mask="random"),
    "down_sampling": lambda noise: daps_operators.DownSampling(noise=noise, scale_factor=2),
    "gaussian_blur": lambda noise: daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0),
    "motion_blur": lambda noise: daps_operators.MotionBlur(noise=noise, kernel_size=5),
}
KERNELS = {
    "exact": Exact(accuracy=1e-3),
    "rto": RandomiseThenOptimise(newton_steps=1, cg_steps=100, accuracy=1e-3),
    "auto": Auto(),
    "hmc": HMC(steps=30),
    "mala": MALA(steps=120),
    "langevin": Langevin(steps=250),
}


def make(name: str) -> LinearOperator:
    return LINEAR[name](noise=GaussianNoiseSettings(sigma=NOISE)).build(shape=SHAPE, seed=0, device=CPU)


def smooth_prior() -> GaussianPrior:
    """A Gaussian whose variances run from 0.02 to 0.2 in a basis of no symmetry."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    variances = torch.logspace(-1.7, -0.7, SIZE, dtype=torch.float64)
    mean = 0.3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return GaussianPrior(mean, covariance=basis * variances @ basis.T)


def whitened_draws(x, prior, operator, y, noise=NOISE):
    """Return P^{1/2} (x - posterior mean) for draws x [B, ...], in double precision."""
    eye = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
    a = operator.forward(eye).flatten(1).T
    values, vectors = prior.covariance.variances, prior.covariance.vectors
    precision = vectors / values @ vectors.T + a.T @ a / noise**2
    mu = prior.mean.flatten()
    pull = a.T @ (y.double().flatten() - a @ mu) / noise**2
    mean = mu + torch.linalg.solve(precision, pull)
    return (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)


def check_standard_normal(w, allowance=0.0):
    count, size = w.shape
    assert float(w.mean(0).abs().max()) < Z / sqrt(count) + allowance
    covariance = torch.cov(w.T)
    spread = float(covariance.diagonal().mean())
    assert abs(spread - 1) < Z * sqrt(2 / (count * size)) + allowance
    assert abs(spread - 1) < 0.03
    error = covariance - torch.eye(size, dtype=covariance.dtype)
    assert float(error.abs().max()) < Z * sqrt(2 / count) + allowance


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
        annealing=AnnealingSettings(levels=levels, sigma_min=0.2), kernel=KERNELS[kernel], final_denoise=False
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
    assert "residual" not in info.extra
    check_standard_normal(whitened_draws(x, prior, operator, y))


def test_the_residual_bounds_the_error():
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    target = GaussianTarget(
        prior.denoise(y, 1.0),
        prior.denoising_covariance(1.0),
        operator,
        y,
        sigma=1.0,
        likelihood_variance=0.02**2,
    )
    here = Linearised(Whitened(target), target.centre, 1 / 0.02**2)
    matrix = here.multiply(torch.eye(SIZE).reshape(SIZE, *SHAPE)).flatten(1).double()
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-4, atol=1e-3)
    b = 100 * RandomStreams([1, 2]).normal(SHAPE)
    exact = torch.linalg.solve(matrix, b.flatten(1).double().T).T
    for accuracy in (1.0, 0.1, 0.01):
        w, bound = here.solve(b, accuracy=accuracy, max_steps=200)
        error = w.flatten(1).double() - exact
        size = ((error @ matrix * error).sum(1) / SIZE).sqrt()
        assert bool((size <= bound.double() * 1.01).all())
        assert bool((bound <= accuracy * 1.01).all())
    _, bound = here.solve(b, accuracy=1e-6, max_steps=2)
    assert bool((bound > 1e-3).all()), "two steps cannot do, and the bound has to say so"
    largest = torch.linalg.eigvalsh(matrix)[-1]
    found = here.stiffness(RandomStreams([1, 2]).normal(SHAPE), steps=60)
    assert bool(((found / largest - 1).abs() < 0.02).all())


def test_too_few_steps_of_conjugate_gradients_are_told_once():
    prior, operator = smooth_prior(), make("gaussian_blur")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    sampler = Daps(
        annealing=AnnealingSettings(levels=3), kernel=Exact(cg_steps=1, tau=0.001), spread="calibrated"
    ).build()
    steps = list(sampler.sample(prior, operator, y, RandomStreams([0])))
    assert sum("cg_steps" in text for step in steps for text in step.messages) >= 1


def test_draws_stay_exact_where_the_inverse_of_an_operator_gives_up(scaled_operator):
    """The solver of the operator fails as an error; conjugate gradients among measurements take its place."""
    shape, noise, spread = (1, 8, 8), 0.2, 0.5
    operator = scaled_operator(0.8, noise, shape)

    def give_up(b, weight):
        raise ArithmeticError("conjugate gradients stopped at a relative residual of 2.0e-01")

    operator.solve_normal = give_up
    count = 400
    target = GaussianTarget(
        torch.full((count, *shape), 0.3),
        Isotropic(spread**2),
        operator,
        torch.full((count, *shape), 0.9),
        sigma=spread,
        likelihood_variance=noise**2,
    )
    x, _ = Exact(accuracy=1e-4).build().run(target, target.centre, RandomStreams(range(count)))
    variance = 1 / (1 / spread**2 + 0.8**2 / noise**2)
    mean = variance * (0.3 / spread**2 + 0.8 * 0.9 / noise**2)
    assert float(x.mean()) == pytest.approx(mean, abs=4.5 * sqrt(variance / x.numel()))
    assert float(x.var()) == pytest.approx(variance, rel=4.5 * sqrt(2 / x.numel()))


# --- one number an element: operators and noise that leave nothing Gaussian --------------------------------------

GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)
CENTRE, SPREAD = 0.1, 0.4


def quadrature(operator, y):
    """Return mean and variance of p(x) proportional to N(x; CENTRE, SPREAD^2) p(y | x), x one number."""
    image = GRID.reshape(-1, 1, 1, 1)
    log_density = operator.log_likelihood(image, torch.full_like(image, y))
    log_density = log_density - (GRID - CENTRE) ** 2 / (2 * SPREAD**2)
    weight = (log_density - log_density.max()).exp()
    weight = weight / weight.sum()
    mean = float((weight * GRID).sum())
    return mean, float((weight * (GRID - mean) ** 2).sum())


def elementwise(operator_settings, kernel, y, count=100):
    """Return draws for images of 10 x 10 independent numbers that were all measured as y."""
    shape = (1, 10, 10)
    operator = operator_settings.build(shape=shape, seed=0, device=CPU)
    centre = torch.full((count, *shape), CENTRE)
    target = GaussianTarget(
        centre,
        Isotropic(torch.tensor(SPREAD**2)),
        operator,
        torch.full_like(centre, y),
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    x, info = kernel.build().run(target, centre, RandomStreams(range(count)))
    assert not info.diverged.any()
    return x.double(), quadrature(operator_settings.build(shape=(1, 1, 1), seed=0, device=CPU), y)


ADJUSTED = {"hmc": HMC(steps=60), "mala": MALA(steps=200)}
COUNTS = {"dark": -0.8, "dim": -0.6, "bright": 0.5}


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
    settings = daps_operators.Identity(noise=PoissonNoiseSettings(peak=40.0))
    x, (mean, variance) = elementwise(settings, ADJUSTED[kernel], COUNTS[y])
    assert abs(float(x.mean()) - mean) < Z * sqrt(variance / x.numel()) + 0.01 * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=0.03 + Z * sqrt(2 / x.numel()))


@pytest.mark.parametrize(
    ("y", "shift", "spread"), [("dark", 0.05, 0.3), ("dim", 0.05, 0.1), ("bright", 0.05, 0.05)]
)
def test_randomise_then_optimise_with_photon_noise(y, shift, spread):
    """Counts of 4, 8 and 30: the mean within so many deviations, the variance within that share."""
    settings = daps_operators.Identity(noise=PoissonNoiseSettings(peak=40.0))
    kernel = RandomiseThenOptimise(newton_steps=30, cg_steps=50, accuracy=1e-3)
    x, (mean, variance) = elementwise(settings, kernel, COUNTS[y])
    assert abs(float(x.mean()) - mean) < shift * sqrt(variance)
    assert float(x.var()) == pytest.approx(variance, rel=spread)


def test_exact_draws_need_a_linear_operator():
    settings = daps_operators.HighDynamicRange()
    with pytest.raises(ComponentError, match="'exact' needs a linear operator"):
        elementwise(settings, Exact(), 0.3, count=2)


def test_a_measurement_that_is_not_explained_is_named():
    prior, operator = smooth_prior(), make("identity")
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5, 6])), RandomStreams([7, 8]))
    y[1] += 3.0 * RandomStreams([9]).normal(SHAPE)[0]
    steps = list(Daps(budget="fast").build().sample(prior, operator, y, RandomStreams([1, 2])))
    assert any("exact draws" in text for text in steps[0].notes)
    (told,) = steps[-1].messages
    assert told.startswith("sample 1 of the batch: the residual is up to")
    assert not any(step.messages for step in steps[1:-1])


@pytest.mark.parametrize(("budget", "levels"), [("fast", 8), ("balanced", 20), ("accurate", 100), (7, 6)])
def test_a_budget_is_kept(budget, levels):
    prior, operator = smooth_prior(), make("identity")
    calls = []
    denoise = prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    y = operator.measure(prior.sample(SHAPE, RandomStreams([5])), RandomStreams([6]))
    steps = list(Daps(budget=budget).build().sample(prior, operator, y, RandomStreams([1])))
    assert len(steps) == levels
    assert len(calls) == levels + 1
    assert (steps[0].sigma, steps[-1].sigma) == (10.0, 0.1)
