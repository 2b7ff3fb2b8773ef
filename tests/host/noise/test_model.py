"""Noise models: draws, density, misfit, curvature and expectation agree with each other, whatever the model."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.noise import (
    GaussianNoise,
    LaplaceNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    RecordedNoise,
    StudentNoise,
)
from daps_kit.random import RandomStreams

F64 = torch.float64


class Logistic(Noise):
    """A stranger's: y = a + 0.1 t, t logistic. All but what the contract asks for is the default."""

    dispersion = 0.01

    def sample(self, clean, streams):
        u = streams.uniform(clean.shape[1:], clean.dtype).clamp(1e-12, 1 - 1e-7)
        return clean + 0.1 * (u.log() - (-u).log1p())

    def log_density(self, clean, y):
        d = (y - clean).abs() / 0.1
        return -d - 2 * torch.log1p((-d).exp()) - math.log(0.1)

    def std(self, clean):
        return torch.full_like(clean, 0.1 * math.pi / math.sqrt(3))


MAP = torch.linspace(0.03, 0.3, 30, dtype=F64)

NOISES = {
    "gaussian": GaussianNoise(0.07),
    "gaussian map": GaussianNoise(MAP),
    "poisson": PoissonNoise(40.0),
    "few photons": PoissonNoise(0.5),
    "poisson of magnitudes": PoissonNoise(30.0, black=0.0),
    "camera, low read noise": PoissonGaussianNoise(40.0, 0.4),
    "camera": PoissonGaussianNoise(60.0, 3.0),
    "laplace": LaplaceNoise(0.05),
    "student": StudentNoise(0.05, 4.0),
    "cauchy": StudentNoise(0.05, 1.0),
    "logistic": Logistic(),
    "gaussian, 6 bits": RecordedNoise(GaussianNoise(0.07), bits=6),
    "gaussian, 3 bits": RecordedNoise(GaussianNoise(0.07), bits=3),
    "gaussian, clipped": RecordedNoise(GaussianNoise(0.3), clipped=(-0.5, 0.6)),
    "poisson, 4 bits": RecordedNoise(PoissonNoise(40.0), bits=4),
    "camera, clipped and 5 bits": RecordedNoise(PoissonGaussianNoise(40.0, 2.5), bits=5, clipped=(-1.0, 0.5)),
    "camera, low read noise, 5 bits": RecordedNoise(PoissonGaussianNoise(20.0, 0.5), bits=5),
    "laplace, 5 bits": RecordedNoise(LaplaceNoise(0.05), bits=5),
    "student, 5 bits": RecordedNoise(StudentNoise(0.05, 3.0), bits=5),
    "logistic, 4 bits": RecordedNoise(Logistic(), bits=4),
}
each_noise = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


def clean_and_measured(noise, dtype=F64):
    clean = torch.rand((3, 2, 10, 30), dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clean = clean.abs() if getattr(noise, "black", -1) == 0 else clean
    return clean, noise.sample(clean, RandomStreams([1, 2, 3]))


@each_noise
def test_misfit_and_log_density_agree(noise):
    """log p = -misfit / (2 dispersion) + a constant that depends on y alone."""
    clean, y = clean_and_measured(noise)
    other = clean + 0.1 * torch.sin(100 * clean)
    change = noise.log_density(clean, y) - noise.log_density(other, y)
    misfits = noise.misfit(clean, y) - noise.misfit(other, y)
    torch.testing.assert_close(change, -misfits / (2 * noise.dispersion), rtol=1e-9, atol=1e-8)


@each_noise
def test_the_misfit_is_not_negative(noise):
    """For the camera the best rate for y is not quite that of y, and so for cells of counts."""
    clean, y = clean_and_measured(noise)
    slack = 0.5 if "Poisson" in str(type(getattr(noise, "noise", noise))) else 1e-9
    assert (noise.misfit(clean, y) >= -slack * noise.dispersion).all()
    assert (noise.misfit(clean - 3, y) >= -slack * noise.dispersion).all()


@each_noise
@pytest.mark.parametrize("shift", [0.0, -0.4, -5.0])
def test_misfit_grad_is_the_derivative(noise, shift):
    clean, y = clean_and_measured(noise)
    clean = clean + shift
    h = 1e-6
    differences = (noise.misfit(clean + h, y) - noise.misfit(clean - h, y)) / (2 * h)
    gradient = noise.misfit_grad(clean, y)
    assert not gradient.requires_grad
    kinks = (
        noise.misfit_grad(clean + h, y) - noise.misfit_grad(clean - h, y)
    ).abs() > 1e-2 * gradient.abs() + 1e-2
    assert kinks.double().mean() < 0.01
    close = (gradient - differences).abs() <= 1e-4 * differences.abs() + 1e-4
    assert (close | kinks).all()
    single = noise.misfit_grad(clean.float(), y.float())
    assert single.dtype == torch.float32
    off = (single.double() - gradient).abs() > 1e-3 * gradient.abs() + 2e-2
    assert (off & ~kinks).double().mean() < 2e-3  # a value may round into the next cell


@each_noise
def test_the_gradient_points_back_from_far_away(noise):
    """But not past an end where values saturate."""
    _, y = clean_and_measured(noise)
    inside = (y > (0.1 if getattr(noise, "black", -1) == 0 else -0.4)) & (y < 0.4)
    assert (noise.misfit_grad(y + 2, y)[inside] > 0).all()
    assert (noise.misfit_grad(y - 4, y)[inside] < 0).all()
    assert torch.isfinite(noise.misfit(y - 40, y)).all()
    assert torch.isfinite(noise.misfit(y + 40, y)).all()


@each_noise
def test_draws_have_the_stated_density(noise):
    """Bartlett's identities: the score of draws has mean 0, its variance is the mean of minus its derivative."""
    clean = torch.full((4, 200, 30), 0.31, dtype=F64)
    y = noise.sample(clean, RandomStreams([3, 4, 5, 6]))
    h = 1e-3

    def score(a):
        return -noise.misfit_grad(a, y) / (2 * noise.dispersion)

    def information(a):
        return (
            noise.log_density(a + h, y) - 2 * noise.log_density(a, y) + noise.log_density(a - h, y)
        ) / h**2

    s = score(clean)
    n = s.numel() ** 0.5
    assert abs(float(s.mean())) < 4.5 * float(s.std()) / n
    balance = s.square() + information(clean)
    if not isinstance(getattr(noise, "noise", noise), LaplaceNoise):  # whose score jumps
        assert abs(float(balance.mean())) < 4.5 * float(balance.std()) / n + 1e-2 * float(s.square().mean())


@each_noise
def test_the_misfit_of_draws_is_what_is_expected(noise):
    clean, y = clean_and_measured(noise)
    misfit = noise.misfit(clean, y)
    expected = noise.expected_misfit(clean)
    assert expected.shape == clean.shape
    spread = float(misfit.std()) / misfit.numel() ** 0.5
    assert abs(float(misfit.mean() - expected.mean())) < 4.5 * 1.2 * spread


@each_noise
def test_the_standard_deviation_is_that_of_draws(noise):
    if isinstance(noise, StudentNoise) and noise.dof <= 4:
        pytest.skip("its variance is infinite, or too heavy-tailed to be measured")
    if isinstance(noise, RecordedNoise):
        assert noise.std(torch.zeros(1, 1)) >= noise.noise.std(torch.zeros(1, 1))
        return
    clean = torch.full((2, 3000, 30), 0.3, dtype=F64)
    y = noise.sample(clean, RandomStreams([3, 4]))
    z = (y - clean) / noise.std(clean)
    assert abs(float(z.mean())) < 4.5 / z.numel() ** 0.5
    if getattr(noise, "peak", 1) >= 1:  # below a photon the width is that of one
        assert float(z.square().mean()) == pytest.approx(
            1, abs=4.5 * float(z.square().std()) / z.numel() ** 0.5
        )


@each_noise
def test_the_curvature_is_positive_and_that_of_the_mean_information(noise):
    """Of the size of the mean second derivative, within a factor, or above it."""
    clean, y = clean_and_measured(noise)
    curvature = torch.as_tensor(noise.curvature(clean, y)).expand_as(clean)
    assert (curvature > 0).all()
    assert torch.isfinite(curvature).all()
    s = noise.misfit_grad(clean, y) / 2
    information = float(s.square().mean()) / noise.dispersion
    assert 0.1 < float(curvature.mean()) / information < 12


@each_noise
def test_a_draw_depends_on_its_stream_alone(noise):
    clean, y = clean_and_measured(noise)
    alone = noise.sample(clean[1:2], RandomStreams([2]))
    assert torch.equal(alone, y[1:2])


@pytest.mark.parametrize(("make", "message"), [
    (lambda: GaussianNoise(-0.1), "sigma must not be negative"),
    (lambda: GaussianNoise(math.nan), "sigma must not be negative"),
    (lambda: GaussianNoise(torch.tensor([0.1, math.inf])), "sigma must not be .* anywhere in its map"),
    (lambda: PoissonNoise(-1.0), "peak must be positive"),
    (lambda: PoissonNoise(math.inf), "peak must be positive"),
    (lambda: PoissonNoise(1.0, black=1.0), "black must be below 1"),
    (lambda: PoissonNoise(1.0, dark=0.0), "dark must be positive"),
    (lambda: PoissonGaussianNoise(1.0, 0.0), "read must be positive"),
    (lambda: LaplaceNoise(-1.0), "scale must be positive"),
    (lambda: StudentNoise(1.0, 0.5), "dof must be at least 1"),
    (lambda: RecordedNoise(GaussianNoise(1.0), bits=0), "bits must lie between 1 and 16"),
    (lambda: RecordedNoise(GaussianNoise(1.0), clipped=(1.0, 1.0)), "low < high"),
])  # fmt: skip
def test_parameters_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
