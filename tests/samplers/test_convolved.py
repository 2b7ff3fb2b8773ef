"""Convolutions: solutions against dense matrices, and the steps that they take."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from daps_kit.contracts import LinearOperator
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.noise import GaussianNoise
from daps_operators.defocus import disc
from daps_operators.gaussian_blur import GaussianBlur
from daps_operators.linear_motion import linear_motion
from daps_operators.motion_blur import MotionBlur
from daps_operators.motion_kernel import motion_kernel
from daps_samplers.convolved import hats, on_torus, solve
from tests.falling_spectrum import SHAPE, falling, local, steeper

NOISE = GaussianNoise(0.02)
ACCURACY = 1e-3
KERNELS: dict[str, Callable[[], np.ndarray]] = {
    "shake": lambda: motion_kernel(5, 0.5, np.random.default_rng(3)),
    "line": lambda: linear_motion(4, 30),
    "disc": lambda: disc(1.3),
}
CASES = [
    *((kernel, boundary) for kernel in KERNELS for boundary in ("zero", "periodic")),
    ("shake", "reflect"),
    ("line", "reflect"),
    ("gauss", "zero"),
    ("gauss", "periodic"),
]
COVARIANCES = {"mean": falling, "one for each": steeper, "local": lambda: local(2)}


def make(kernel: str, boundary: str, shape=SHAPE) -> LinearOperator:
    if kernel == "gauss":
        return GaussianBlur(shape, NOISE, 5, 1.0, boundary)  # type: ignore[arg-type]
    taps = torch.from_numpy(KERNELS[kernel]())[None, None]
    return MotionBlur(shape, NOISE, taps, boundary)  # type: ignore[arg-type]


def columns(apply, count, shape=SHAPE):
    """Return the matrices of a linear map of images, one a sample, [count, m, n], in double precision."""
    unit = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, 1, *shape)
    return torch.stack([apply(row.expand(count, *shape)).flatten(1) for row in unit], 2)


def judged(operator, c, weight, count=2, shape=SHAPE, max_steps=200):
    """Return what a solution says of its error, its true one, and the steps it takes."""
    misfit = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
    misfit = operator.forward(c.sqrt(misfit))
    steps, precision = [], c.precision
    c.precision = lambda x: steps.append(1) or precision(x)  # type: ignore[method-assign]
    x, error = solve(operator, operator.transfer(), c, weight, misfit, accuracy=ACCURACY, max_steps=max_steps)
    c.precision = precision
    a, prior = columns(operator.forward, count, shape), columns(c.multiply, count, shape)
    w = weight.expand_as(misfit).flatten(1).double()
    m = torch.linalg.inv(prior) + a.mT @ (w[:, :, None] * a)
    exact = torch.linalg.solve(m, a.mT @ (w * misfit.flatten(1).double())[:, :, None])
    left = x.flatten(1).double()[:, :, None] - exact
    return error, ((left.mT @ m @ left)[:, 0, 0] / math.prod(shape)).sqrt(), len(steps)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("kernel", "boundary"), CASES)
def test_solutions_against_dense_matrices(kernel, boundary, covariance):
    error, true, steps = judged(
        make(kernel, boundary), COVARIANCES[covariance](), torch.tensor(1 / NOISE.sigma**2)
    )
    assert bool((error <= ACCURACY).all())
    assert bool((true <= 1.5 * error.double() + 1e-5).all()), "what it tells is about a bound"
    assert steps < 60


@pytest.mark.parametrize("covariance", [falling, lambda: local(2)], ids=["mean", "local"])
def test_noise_that_differs_from_place_to_place_and_from_sample_to_sample(covariance):
    each = torch.tensor([400.0, 2500.0])[:, None, None, None]
    places = torch.linspace(-4, 4, SHAPE[2]).exp() * torch.tensor([1.0, 2.0, 0.5])[:, None, None]
    for weight in (each, (100 * places).expand(1, *SHAPE)):
        error, true, steps = judged(make("shake", "reflect"), covariance(), weight)
        assert bool((error <= ACCURACY).all())
        assert bool((true <= error.double() + 1e-5).all())
        assert steps < 60


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_operators_of_their_own_for_each_sample(boundary):
    blurs = [GaussianBlur(SHAPE, NOISE, 5, intensity, boundary) for intensity in (0.7, 1.5)]
    motions = [make("shake", boundary), make("line", boundary)]
    for apart in (blurs, motions):
        joined = apart[0].stack(apart)
        assert isinstance(joined, LinearOperator)
        error, true, steps = judged(joined, local(2), torch.tensor(1 / NOISE.sigma**2))
        assert bool((error <= ACCURACY).all())
        assert bool((true <= 1.5 * error.double() + 1e-5).all())
        assert steps < 60


def spectrum(side: int) -> CosineCovariance:
    """Return variances as those of what photographs leave open, without colour."""
    place = torch.arange(side, dtype=torch.float64)
    return CosineCovariance((20 / (1 + place[:, None] ** 2 + place**2)).float()[None], torch.eye(1))


def test_a_periodic_blur_is_a_few_steps_and_an_oblique_one_not_many():
    """Where nothing but the covariance ends at a border, that is all that is left to find."""
    shape, weight = (1, 24, 24), torch.tensor(1 / NOISE.sigma**2)
    counts = {}
    for kernel, boundary in [("line", "periodic"), ("line", "zero"), ("shake", "reflect")]:
        _, true, counts[kernel, boundary] = judged(
            make(kernel, boundary, shape), spectrum(24), weight, 1, shape
        )
        assert float(true) <= ACCURACY
    assert counts["line", "periodic"] <= 8
    assert counts["line", "zero"] <= 25
    assert counts["shake", "reflect"] <= 20


def test_contrast_that_a_covariance_has_from_place_to_place_takes_few_steps():
    """As few as these it takes only where h is told from place to place."""
    shape, weight = (1, 24, 24), torch.tensor(1 / NOISE.sigma**2)
    rise = torch.linspace(-2, 2, 24).exp().expand(1, *shape)
    _, true, steps = judged(
        make("shake", "zero", shape), LocalCovariance(spectrum(24), rise), weight, 1, shape
    )
    assert float(true) <= ACCURACY
    assert steps <= 20


def test_hats_add_up_to_one_and_lie_around_their_values():
    h = torch.logspace(-3, 2, 60).reshape(1, 1, 6, 10)
    roots, values = hats(h)
    assert len(roots) == len(values) == 3
    total = torch.stack(roots).square()
    torch.testing.assert_close(total.sum(0), torch.ones_like(h))
    # Least 1e-4 of the largest: what is below counts as that.
    mean = sum(root.square() * value.log() for root, value in zip(roots, values, strict=True))
    torch.testing.assert_close(mean, h.clamp_min(1e-2).log(), rtol=1e-4, atol=1e-4)
    (root,), (value,) = hats(torch.full((2, 1, 3, 3), 7.0))
    assert bool((root == 1).all())
    assert value.flatten().tolist() == [7.0, 7.0]


def test_a_batch_of_places_that_are_measured_alike_and_others_that_are_not():
    h = torch.stack((torch.full((1, 6, 10), 3.0), torch.logspace(-1, 1, 60).reshape(1, 6, 10)))
    roots, values = hats(h)
    assert bool(torch.isfinite(torch.stack(roots)).all())
    assert all(value[0].item() == pytest.approx(3) for value in values)


def test_spectra_on_a_torus_are_those_of_the_same_waves():
    """Of variances whose logarithm is linear in frequency nothing is lost between two."""
    f, g = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (6, 10))
    power = (-3 * f[:, None] - 2 * g).exp()[None]
    for size in ((6, 10), (16, 32)):
        found = on_torus(power, size)
        down = np.abs(np.fft.fftfreq(size[0])).clip(max=5 / 12)
        across = np.fft.rfftfreq(size[1]).clip(max=9 / 20)
        expected = np.exp(-3 * down[:, None] - 2 * across)
        np.testing.assert_allclose(found[0], expected, rtol=1e-9)
