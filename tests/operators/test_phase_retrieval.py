"""Phase retrieval: equal to the recorded numbers and to NumPy's transform, with closed-form derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from daps_kit.noise import GaussianNoise, PoissonNoise
from daps_operators import PhaseRetrieval as PhaseRetrievalSettings
from daps_operators.noises import Poisson
from daps_operators.phase_retrieval import PhaseRetrieval

SHAPES = [(3, 32, 32), (1, 17, 24), (2, 16, 9), (4, 5, 7), (1, 1, 1)]


def operator(shape: tuple[int, int, int], oversample: float = 2.0) -> PhaseRetrieval:
    return PhaseRetrieval(shape, GaussianNoise(0.05), oversample)


def images(shape: tuple[int, int, int], batch: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(batch, *shape, generator=generator, dtype=torch.float64) - 1


def moduli(x: torch.Tensor, oversample: float) -> np.ndarray:
    """Return |F P (x + 1) / 2| with the image in the middle and the full complex transform."""
    pads = [int(oversample / 8 * side) for side in x.shape[2:]]
    padded = np.pad(x.numpy() / 2 + 0.5, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
    return np.fft.fftshift(np.abs(np.fft.fft2(padded, norm="ortho")), axes=(-2, -1))


def assert_close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor, tolerance: float = 1e-5) -> None:
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("size", [32, 64])
def test_equal_to_recorded_numbers(golden, size):
    arrays, params = golden(f"op_phase_retrieval_{size}")
    x, x2, y = (torch.from_numpy(arrays[key]) for key in ("x", "x2", "y"))
    op = operator((3, size, size), params["oversample"])
    assert_close(op.forward(x), arrays["out"])
    assert_close(op.forward_vjp(x)[0], arrays["out"])
    assert_close(op.loss(x2, y), arrays["loss"])
    loss, gradient = op.loss_grad(x2, y)
    assert_close(loss, arrays["loss"])
    assert_close(gradient, arrays["grad"])


def test_equal_to_recorded_numbers_at_256(golden):
    arrays, params = golden("op256_phase_retrieval")
    x, x2, y = (
        torch.from_numpy(arrays[f"{key}_small"]).repeat_interleave(8, -1).repeat_interleave(8, -2)
        for key in ("x", "x2", "y")
    )
    op = operator((3, 256, 256), params["oversample"])
    out = op.forward(x)
    assert_close(out[..., 1::8, ::8], arrays["out_sub"])
    assert float(out.double().sum()) == pytest.approx(params["out_stats"][0], rel=1e-6)
    assert float(out.double().norm()) == pytest.approx(params["out_stats"][1], rel=1e-6)
    loss, gradient = op.loss_grad(x2, y)
    assert_close(loss, arrays["loss"])
    # An image of 8 x 8 blocks has spectral zeros at the multiples of 48 (4 % of the moduli); the gradient there
    # multiplies by a phase that is rounding error and differs from machine to machine. Frequency 0 alone is in
    # the sum, and the rest of the gradient is within the size that the zeros explain.
    assert float(gradient.double().sum()) == pytest.approx(params["grad_stats"][0], rel=1e-6)
    clean, _ = op.forward_vjp(x2)
    at_zeros = torch.where(clean < 1e-4, 2 * (clean - y), 0.0).norm() / 2
    scatter = float(at_zeros) / np.sqrt(out.numel())  # root mean square, as white noise over the padded image
    difference = (gradient[..., 3::8, 5::8] - torch.from_numpy(arrays["grad_sub"])).square().mean().sqrt()
    assert float(difference) < 2 * scatter
    assert scatter < 0.1 * float(gradient.square().mean().sqrt())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("oversample", [0.0, 1.3, 2.0, 4.0])
def test_equal_to_the_full_transform_of_numpy(shape, oversample):
    x, op = images(shape), operator(shape, oversample)
    expected = moduli(x, oversample)
    assert_close(op.forward(x), expected, 1e-12)
    assert_close(op.forward_vjp(x)[0], expected, 1e-12)
    energy = (x / 2 + 0.5).square().flatten(1).sum(1)
    torch.testing.assert_close(op.forward(x).square().flatten(1).sum(1), energy)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("oversample", [0.0, 2.0])
def test_derivatives_equal_autograd(shape, oversample):
    x, op = images(shape), operator(shape, oversample)
    y, vjp = op.forward_vjp(x)
    u = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    v = images(shape, seed=2)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(op.forward(leaf), leaf, u)
    torch.testing.assert_close(vjp(u), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(vjp(u), expected, rtol=1e-9, atol=1e-9)  # the map may be used again
    step = 1e-6
    difference = (op.forward(x + step * v) - op.forward(x - step * v)) / (2 * step)
    torch.testing.assert_close(op.jvp(x, v), difference, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close((op.jvp(x, v) * u).sum(), (v * vjp(u)).sum(), rtol=1e-10, atol=1e-10)


def test_the_gradient_is_zero_where_the_modulus_is():
    op = operator((1, 16, 16))
    black = -torch.ones(1, 1, 16, 16)
    y, vjp = op.forward_vjp(black)
    assert float(y.abs().max()) == 0
    assert float(vjp(torch.ones_like(y)).abs().max()) == 0
    assert float(op.jvp(black, torch.ones_like(black)).abs().max()) == 0


def test_phases_of_tiny_spectra_stay_phases():
    """Below the square root of the smallest float, the square of a modulus underflows."""
    op = operator((1, 8, 8))
    x = -1 + 1e-7 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    _, vjp = op.forward_vjp(x)
    gradient = vjp(torch.ones(1, 1, 12, 12))
    assert torch.isfinite(gradient).all()
    assert float(gradient.norm()) <= 6.001  # |J^T v| <= |v| / 2


def test_shifts_and_flips_are_not_seen():
    """The known ambiguities of the problem: a circular shift, and a turn by 180 degrees."""
    x = images((3, 16, 16))
    padded = operator((3, 16, 16), 0.0)
    expected = padded.forward(x)
    torch.testing.assert_close(padded.forward(x.roll((3, -5), (-2, -1))), expected)
    torch.testing.assert_close(padded.forward(x.flip(-2, -1)), expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_picture_is_a_logarithmic_scale(channels):
    op = operator((channels, 16, 16))
    y = op.forward(images((channels, 16, 16)).float())
    picture = op.to_image(y)
    assert picture.shape == (2, 3 if channels == 3 else 1, 24, 24)
    assert float(picture.max()) == pytest.approx(1)
    assert picture[0].argmax() % 576 == 12 * 24 + 12  # frequency 0, in the middle
    assert float(picture.min()) >= -1
    grey = op.to_image(torch.tensor([[[[1.0, 0.1, 0.01, 0.001, 1e-4, 0.0, -1.0]]]]))
    torch.testing.assert_close(grey.flatten(), torch.tensor([1.0, 0.5, 0, -0.5, -1, -1, -1]))
    assert float(op.to_image(torch.zeros(1, channels, 4, 4)).max()) == -1


def test_settings_build_the_operator():
    built = PhaseRetrievalSettings(oversample=4.0).build(
        shape=(1, 16, 24), seed=0, device=torch.device("cpu")
    )
    assert built.forward(torch.zeros(1, 1, 16, 24)).shape == (1, 1, 32, 48)
    settings = PhaseRetrievalSettings(noise=Poisson(peak=50.0))
    noise = settings.build(shape=(1, 8, 8), seed=0, device=torch.device("cpu")).noise
    assert isinstance(noise, PoissonNoise)
    assert noise.black == 0
    with pytest.raises(ValidationError, match="oversample"):
        PhaseRetrievalSettings(oversample=-1.0)


# --- conventions

CUSTOMS = [
    (centred, norm, values)
    for centred in (True, False)
    for norm in ("ortho", "none")
    for values in ("modulus", "intensity")
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("centred", "norm", "values"), CUSTOMS)
def test_every_custom_is_numpys(shape, centred, norm, values):
    x = images(shape)
    op = PhaseRetrieval(shape, GaussianNoise(0.05), 2.0, centred=centred, norm=norm, values=values)
    pads = [int(2.0 / 8 * side) for side in shape[1:]]
    padded = np.pad(x.numpy() / 2 + 0.5, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
    expected = np.abs(np.fft.fft2(padded, norm="ortho" if norm == "ortho" else None))
    expected = np.fft.fftshift(expected, axes=(-2, -1)) if centred else expected
    expected = expected**2 if values == "intensity" else expected
    assert_close(op.forward(x), expected, 1e-12)
    clean, vjp = op.forward_vjp(x)
    assert_close(clean, expected, 1e-12)
    v = torch.from_numpy(np.random.default_rng(0).standard_normal(clean.shape))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(op.forward(leaf), leaf, v)
    torch.testing.assert_close(vjp(v), gradient, rtol=1e-8, atol=1e-10)
    direction = images(shape, seed=5)
    step = 1e-6
    change = (op.forward(x + step * direction) - op.forward(x - step * direction)) / (2 * step)
    torch.testing.assert_close(op.jvp(x, direction), change, rtol=1e-4, atol=1e-5 * float(change.abs().max()))


def test_the_settings_hand_the_customs_on():
    settings = PhaseRetrievalSettings(centred=False, norm="none", values="intensity")
    op = settings.build(shape=(1, 8, 8), seed=0, device=torch.device("cpu"))
    y = op.forward(torch.ones(1, 1, 8, 8))
    assert float(y[0, 0, 0, 0]) == pytest.approx(64.0**2)
