"""Exact draws: operators' preconditioners against dense matrices, draws against the closed form."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

import daps_operators
from daps_kit.contracts import Covariance, RandomStreams
from daps_kit.covariance import CosineCovariance, Isotropic
from daps_kit.noise import GaussianNoise
from daps_kit.settings import GaussianNoiseSettings
from daps_operators.gaussian_blur import GaussianBlur
from daps_samplers import Exact
from daps_samplers.exact import preconditioner
from daps_samplers.target import GaussianTarget
from tests.falling_spectrum import SHAPE, falling, local, steeper

CPU = torch.device("cpu")
SIZE = 3 * 8 * 12
NOISE = 0.1


OPERATORS = {
    "identity": daps_operators.Identity,
    "box": lambda noise: daps_operators.Inpainting(noise=noise),
    "random": lambda noise: daps_operators.Inpainting(noise=noise, mask="random"),
    "down_sampling": lambda noise: daps_operators.DownSampling(noise=noise, scale_factor=2),
    "gaussian_blur": lambda noise: daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0),
    "motion_blur": lambda noise: daps_operators.MotionBlur(noise=noise, kernel_size=5),
    "motion_valid": lambda noise: daps_operators.MotionBlur(noise=noise, kernel_size=5, boundary="valid"),
    "defocus": lambda noise: daps_operators.DefocusBlur(noise=noise, radius=1.3),
    "gaussian_zero": lambda noise: daps_operators.GaussianBlur(
        noise=noise, kernel_size=5, intensity=1.0, boundary="zero"
    ),
}


def make(name):
    return OPERATORS[name](noise=GaussianNoiseSettings(sigma=NOISE)).build(shape=SHAPE, seed=0, device=CPU)


def matrix(apply, shape):
    """Return the matrix of a linear map of tensors of a shape, in double precision."""
    size = int(np.prod(shape))
    return apply(torch.eye(size).reshape(size, *shape)).flatten(1).double().T


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("down_sampling", 1.001),
        ("gaussian_blur", 2),
        ("defocus", 2),
        ("motion_blur", 60),
        ("motion_valid", 3),
    ],
)
def test_preconditioners_against_the_inverse(name, spread):
    """S times its preconditioner has eigenvalues near 1: their largest ratio bounds the steps that are needed."""
    operator, c = make(name), falling()
    inverse = operator.preconditioner(c, NOISE**2)
    shape = operator.forward(torch.zeros(1, *SHAPE)).shape[1:]
    p = matrix(inverse, shape)
    s = matrix(lambda z: operator.forward(c.multiply(operator.adjoint(z))), shape)
    s = s + NOISE**2 * torch.eye(len(s), dtype=s.dtype)
    torch.testing.assert_close(p, p.T, rtol=1e-4, atol=1e-4)
    values = torch.linalg.eigvals(p @ s).real
    plain = torch.linalg.eigvalsh(s)
    ratio = float(values.max() / values.min())
    assert values.min() > 0
    assert ratio < spread
    assert ratio < float(plain.max() / plain.min()) / 5


class Unknown(Covariance):
    def sqrt(self, v):
        return v

    def precision(self, v):
        return v


@pytest.mark.parametrize("name", OPERATORS)
def test_no_preconditioner_for_a_covariance_that_is_not_known(name):
    assert make(name).preconditioner(Unknown(), 1.0) is None


@pytest.mark.parametrize(
    ("name", "spectrum"),
    [
        *((name, falling) for name in OPERATORS),
        *((name, local) for name in ("random", "gaussian_blur")),
    ],
)
def test_draws_have_the_posterior_of_the_closed_form(name, spectrum):
    operator, c, count = make(name), spectrum(), 3000
    centre = torch.full((1, *SHAPE), 0.2)
    y = operator.measure(0.3 * RandomStreams([3]).normal(SHAPE), RandomStreams([4]))
    target = GaussianTarget(
        centre.expand(count, -1, -1, -1),
        c,
        operator,
        y.expand(count, -1, -1, -1),
        sigma=1.0,
        likelihood_variance=NOISE**2,
    )
    x, info = Exact().build().run(target, target.centre, RandomStreams(range(count)))
    assert float(info.error.max()) <= 0.05 * 1.01
    prior, a = matrix(c.multiply, SHAPE), matrix(operator.forward, SHAPE)
    precision = torch.linalg.inv(prior) + a.T @ a / NOISE**2
    misfit = (y - operator.forward(centre)).double().flatten()
    mean = centre.double().flatten() + torch.linalg.solve(precision, a.T @ misfit / NOISE**2)
    w = (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)
    assert float(w.mean(0).abs().max()) < 4.5 / sqrt(count) + 0.05
    assert float(w.var(0).mean()) == pytest.approx(1, abs=0.01)
    covariance = torch.cov(w.T) - torch.eye(SIZE, dtype=w.dtype)
    assert float(covariance.abs().max()) < 4.5 * sqrt(2 / count) + 0.05


def test_draws_of_a_blur_with_noise_that_differs_from_place_to_place():
    sigma = (torch.linspace(-2.5, -0.5, SHAPE[2]) + torch.tensor([0.0, 0.5, 1.0])[:, None, None]).exp()
    operator, c, count = GaussianBlur(SHAPE, GaussianNoise(sigma), 5, 1.0, "zero"), falling(), 1500
    y = operator.measure(0.3 * RandomStreams([3]).normal(SHAPE), RandomStreams([4]))
    target = GaussianTarget(
        torch.full((count, *SHAPE), 0.2),
        c,
        operator,
        y.expand(count, -1, -1, -1),
        sigma=1.0,
        likelihood_variance=operator.noise.dispersion,
    )
    x, _ = Exact().build().run(target, target.centre, RandomStreams(range(count)))
    a, weight = matrix(operator.forward, SHAPE), sigma.double().expand(SHAPE).flatten() ** -2
    precision = torch.linalg.inv(matrix(c.multiply, SHAPE)) + a.T @ (weight[:, None] * a)
    misfit = (y - operator.forward(target.centre[:1])).double().flatten()
    mean = 0.2 + torch.linalg.solve(precision, a.T @ (weight * misfit))
    w = (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)
    assert float(w.mean(0).abs().max()) < 4.5 / sqrt(count)
    assert float(w.var(0).mean()) == pytest.approx(1, abs=0.015)
    covariance = torch.cov(w.T) - torch.eye(SIZE, dtype=w.dtype)
    assert float(covariance.abs().max()) < 5 * sqrt(2 / count)


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


class WeightedNoise(GaussianNoise):
    """Noise whose misfit is a multiple of the squared distance, which its dispersion makes up for."""

    def __init__(self, sigma: float, multiple: float) -> None:
        super().__init__(sigma)
        self._weight, self.dispersion = multiple, multiple * sigma**2


@pytest.mark.parametrize("known", [True, False])
def test_draws_are_exact_whatever_a_misfit_is_a_multiple_of(scaled_operator, known):
    shape, noise, spread, a = (1, 8, 8), 0.2, 0.5, 0.8
    operator, count = scaled_operator(a, noise, shape), 400
    operator.noise = WeightedNoise(noise, 4.0)
    spectrum = torch.full(shape, spread**2)
    target = GaussianTarget(
        torch.full((count, *shape), 0.3),
        Isotropic(spread**2) if known else CosineCovariance(spectrum, torch.eye(1)),
        operator,
        torch.full((count, *shape), 0.9),
        sigma=spread,
        likelihood_variance=operator.noise.dispersion,
    )
    x, _ = Exact(accuracy=1e-4).build().run(target, target.centre, RandomStreams(range(count)))
    variance = 1 / (1 / spread**2 + a**2 / noise**2)
    mean = variance * (0.3 / spread**2 + a * 0.9 / noise**2)
    assert float(x.mean()) == pytest.approx(mean, abs=4.5 * sqrt(variance / x.numel()))
    assert float(x.var()) == pytest.approx(variance, rel=4.5 * sqrt(2 / x.numel()))


@pytest.mark.parametrize("name", ["down_sampling", "gaussian_blur"])
def test_the_preconditioner_of_a_covariance_that_differs_from_place_to_place(name):
    operator, c = make(name), local()
    shape = operator.forward(torch.zeros(1, *SHAPE)).shape[1:]
    s = matrix(lambda z: operator.forward(c.multiply(operator.adjoint(z))), shape)
    s = s + NOISE**2 * torch.eye(len(s), dtype=s.dtype)
    ratios = []
    for inverse in (preconditioner(operator, c, NOISE**2), operator.preconditioner(c.even, NOISE**2)):
        p = matrix(inverse, shape)
        torch.testing.assert_close(p, p.T, rtol=1e-4, atol=1e-3)
        values = torch.linalg.eigvals(p @ s).real
        ratios.append(float(values.max() / values.min()))
    assert ratios[0] < 0.75 * ratios[1]


@pytest.mark.parametrize("name", OPERATORS)
def test_each_sample_is_drawn_with_its_own_spectrum(name):
    """As it is by itself."""
    operator, c = make(name), steeper()
    y = operator.measure(0.3 * RandomStreams([3]).normal(SHAPE), RandomStreams([4]))

    def drawn(covariance, seeds):
        count = len(seeds)
        centre = torch.full((count, *SHAPE), 0.2)
        target = GaussianTarget(
            centre,
            covariance,
            operator,
            y.expand(count, *y.shape[1:]),
            sigma=1.0,
            likelihood_variance=NOISE**2,
        )
        x, _ = Exact(accuracy=1e-5).build().run(target, centre, RandomStreams(seeds))
        return x

    both = drawn(c, [5, 6])
    for sample, seed in enumerate([5, 6]):
        torch.testing.assert_close(drawn(c.of(sample), [seed]), both[sample : sample + 1], rtol=0, atol=2e-3)
