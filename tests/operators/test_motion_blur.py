"""Motion blur against scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage as ndi
import scipy.signal
import torch
import torch.nn.functional as F
from PIL import Image

from daps_kit.contracts import RandomStreams
from daps_kit.covariance import CosineCovariance, cosine_inverse
from daps_kit.errors import UserError
from daps_operators import MotionBlur as Settings
from daps_operators.motion_blur import MotionBlur, fast_length, turned
from tests.operators.inputs import NOISE, build, image


@pytest.mark.parametrize("size", [(15, 15), (4, 7), (1, 1), (61, 31)])
@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 9, 14), (1, 1, 6)], ids=str)
def test_motion_blur_is_scipys_correlation(shape, size):
    kernel = np.random.default_rng(1).random(size)
    x = image(1, *shape)
    expected = np.stack([ndi.correlate(channel, kernel, mode="mirror") for channel in x[0].numpy()])
    blurred = MotionBlur(shape, NOISE, torch.from_numpy(kernel)[None, None]).forward(x)
    np.testing.assert_allclose(blurred[0], expected, rtol=0, atol=1e-11)


def test_motion_blur_is_torchs_convolution_layer_at_256_pixels():
    kernel = torch.from_numpy(np.random.default_rng(1).random((31, 31)))
    kernel = (kernel / kernel.sum())[None, None]
    x = image(1, 3, 256, 200).float()
    padded = F.pad(x, (15, 15, 15, 15), mode="reflect")
    expected = F.conv2d(padded.double(), kernel.expand(3, 1, -1, -1), groups=3)
    error = MotionBlur((3, 256, 200), NOISE, kernel).forward(x) - expected
    assert error.abs().max() < 1e-6


def test_transform_lengths_are_fast_and_long_enough():
    for n in range(1, 1500):
        length = fast_length(n)
        assert n <= length < 1.25 * n + 16
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1


def test_kernel_files_are_scaled_to_sum_1(tmp_path):
    kernel = np.random.default_rng(0).random((7, 9))
    np.save(tmp_path / "k.npy", 5 * kernel)
    grey = np.round(255 * kernel).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "k.png")
    for name, expected in (("k.npy", kernel / kernel.sum()), ("k.png", grey / grey.sum())):
        settings = Settings(kernel=str(tmp_path / name), kernel_is="correlation", draw="per_image")
        assert not settings.per_image
        read = build(settings).state()["kernel"]
        np.testing.assert_allclose(read[0, 0], expected, rtol=1e-12)


def test_a_deep_png_keeps_its_16_bits(tmp_path):
    kernel = np.random.default_rng(0).integers(0, 65536, (5, 5)).astype(np.uint16)
    Image.fromarray(kernel).save(tmp_path / "k.png")
    read = build(Settings(kernel=tmp_path / "k.png", kernel_is="correlation")).state()["kernel"]
    np.testing.assert_allclose(read[0, 0], kernel / kernel.sum(dtype=float), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e308, 1e-308, 1e-3, 65535.0])
def test_kernels_of_any_scale(tmp_path, scale):
    kernel = np.arange(1.0, 10).reshape(3, 3)
    np.save(tmp_path / "k.npy", kernel[..., None] / 9 * scale)
    read = build(Settings(kernel=tmp_path / "k.npy", kernel_is="correlation")).state()["kernel"][0, 0]
    np.testing.assert_allclose(read, kernel / 45, rtol=1e-12)


WRONG = [
    (-np.ones((3, 3)), "the sum -9, .* allowed: a positive sum"),
    (np.array([[1.0, -1.0]]), "the sum 0"),
    (np.array([[0.1, 0.2, -0.3]]), "allowed: a positive sum"),  # 5.6e-17 by rounding
    (np.zeros((3, 3)), "the sum 0"),
    (np.ones((2, 3, 3)), "3 axes"),
    (np.full((3, 3), np.inf), "not finite"),
    (np.zeros((0, 3)), "empty"),
    (np.ones((3, 3), dtype=complex), "real numbers"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda v: str(v)[:12])
def test_wrong_arrays(tmp_path, values, message):
    np.save(tmp_path / "wrong.npy", values, allow_pickle=values.dtype == object)
    with pytest.raises(UserError, match=message) as caught:
        build(Settings(kernel=tmp_path / "wrong.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrong.npy", "wrong.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        build(Settings(kernel=tmp_path / name))


# --- conventions

SCIPYS = {"reflect": "mirror", "periodic": "wrap", "zero": "constant"}
SIZES = [(5, 5), (4, 7), (6, 6), (1, 1), (3, 10)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("boundary", SCIPYS)
@pytest.mark.parametrize("kernel_is", ["psf", "correlation"])
def test_a_kernel_from_a_file_is_scipys_convolution_or_correlation(tmp_path, size, boundary, kernel_is):
    kernel = np.random.default_rng(2).random(size)
    np.save(tmp_path / "k.npy", 7 * kernel)
    x = image(1, 2, 23, 18)
    settings = Settings(kernel=tmp_path / "k.npy", kernel_is=kernel_is, boundary=boundary)
    blurred = build(settings, x.shape[1:]).forward(x)[0]
    scipys = ndi.convolve if kernel_is == "psf" else ndi.correlate
    weights = kernel / kernel.sum()
    expected = np.stack([scipys(channel, weights, mode=SCIPYS[boundary]) for channel in x[0].numpy()])
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_of_a_point_is_the_psf(tmp_path, size):
    psf = np.random.default_rng(3).random(size)
    np.save(tmp_path / "psf.npy", psf)
    point = torch.zeros(1, 1, 25, 27, dtype=torch.float64)
    point[..., 12, 13] = 1
    seen = build(Settings(kernel=tmp_path / "psf.npy"), (1, 25, 27)).forward(point)[0, 0].numpy()
    top, left = 12 - size[0] // 2, 13 - size[1] // 2
    np.testing.assert_allclose(seen[top : top + size[0], left : left + size[1]], psf / psf.sum(), atol=1e-12)
    assert seen.sum() == pytest.approx(1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_is", ["psf", "correlation"])
def test_what_is_valid_is_scipys(tmp_path, size, kernel_is):
    kernel = np.random.default_rng(4).random(size)
    kernel /= kernel.sum()
    np.save(tmp_path / "k.npy", kernel)
    x = image(1, 1, 23, 18)
    settings = Settings(kernel=tmp_path / "k.npy", kernel_is=kernel_is, boundary="valid")
    blurred = build(settings, (1, 23, 18)).forward(x)[0, 0]
    scipys = scipy.signal.convolve2d if kernel_is == "psf" else scipy.signal.correlate2d
    np.testing.assert_allclose(blurred, scipys(x[0, 0].numpy(), kernel, mode="valid"), atol=1e-12)


@pytest.mark.parametrize("boundary", [*SCIPYS, "valid"])
@pytest.mark.parametrize("size", [(5, 5), (4, 7), (31, 3)])
def test_the_adjoint_and_the_inverse_at_every_boundary(boundary, size):
    if boundary == "valid" and size[0] > 19:
        size = (19, 3)
    kernel = np.random.default_rng(5).random(size)
    kernel = torch.from_numpy(kernel / kernel.sum())[None, None]
    operator = MotionBlur((2, 19, 16), NOISE, kernel, boundary)
    x = image(1, 2, 19, 16)
    y = operator.forward(x)
    v = torch.from_numpy(np.random.default_rng(6).standard_normal(y.shape))
    assert (y * v).sum().item() == pytest.approx((x * operator.adjoint(v)).sum().item(), rel=1e-10)
    solved = operator.solve_normal(x, 0.01)
    back = operator.adjoint(operator.forward(solved)) + 0.01 * solved
    assert ((back - x).norm() / x.norm()).item() < 1e-5


def test_nothing_is_valid_of_a_kernel_larger_than_the_image():
    with pytest.raises(UserError, match="a kernel of 9 x 3 leaves nothing valid of an image of 8 x 8"):
        MotionBlur((1, 8, 8), NOISE, torch.ones(1, 1, 9, 3), "valid")


def test_kernels_drawn_from_a_seed_stay_correlations():
    drawn = build(Settings(kernel_size=15), seed=4).state()["kernel"]
    assert torch.equal(
        drawn, build(Settings(kernel_size=15, kernel_is="correlation"), seed=4).state()["kernel"]
    )
    assert turned(np.ones((4, 3)), "reflect").shape == (5, 3)


def test_a_preconditioner_of_a_kernel_and_a_variance_for_each_image():
    rng = np.random.default_rng(3)
    shape = (2, 8, 6)
    colours, _ = np.linalg.qr(rng.standard_normal((2, 2)))
    power = torch.from_numpy(rng.uniform(0.1, 1.1, shape))
    covariance = CosineCovariance(power, torch.from_numpy(colours))
    apart = [MotionBlur(shape, NOISE, torch.rand(1, 1, *size).double()) for size in [(3, 5), (5, 1)]]
    variance, v = torch.tensor([0.3, 0.02], dtype=torch.float64), image(2, *shape)
    inverse = MotionBlur.stack(apart).preconditioner(covariance, variance)
    assert inverse is not None
    for b, each in enumerate(apart):
        spectrum = each.spectrum(covariance)
        assert spectrum is not None
        along = scipy.fft.dctn(np.einsum("cd,chw->dhw", colours, v[b].numpy()), axes=(1, 2), norm="ortho")
        divided = scipy.fft.idctn(along / (spectrum + variance[b]).numpy(), axes=(1, 2), norm="ortho")
        expected = torch.from_numpy(np.einsum("cd,dhw->chw", colours, divided))
        torch.testing.assert_close(inverse(v)[b], expected, atol=1e-10, rtol=0)


def test_waves_are_the_transfer_function_along_both_diagonals():
    rng = np.random.default_rng(4)
    shape, taps = (2, 8, 6), rng.random((3, 5))
    power = torch.from_numpy(rng.uniform(0.1, 1.1, shape))
    covariance = CosineCovariance(power, torch.eye(2, dtype=torch.float64))
    operator = MotionBlur(shape, NOISE, torch.from_numpy(taps)[None, None])
    waves = operator.waves(covariance)
    assert waves is not None
    down, across = np.meshgrid(np.pi * np.arange(8) / 8, np.pi * np.arange(6) / 6, indexing="ij")
    for sign, found in zip((1, -1), waves, strict=True):
        rows, columns = np.mgrid[:3, :5]
        phases = down[..., None, None] * rows + sign * across[..., None, None] * columns
        gain = np.abs((taps * np.exp(1j * phases)).sum((-2, -1))) ** 2
        np.testing.assert_allclose(found, gain * power.numpy(), rtol=1e-10)
    torch.testing.assert_close(operator.spectrum(covariance), waves.mean(0))


def test_the_spectrum_of_what_is_valid_is_the_diagonal_of_its_covariance():
    shape, rng = (1, 14, 12), np.random.default_rng(4)
    power = torch.from_numpy(rng.uniform(0.5, 1.5, shape))
    covariance = CosineCovariance(power, torch.eye(1, dtype=torch.float64))
    operator = MotionBlur(shape, NOISE, torch.from_numpy(rng.random((3, 5)))[None, None], "valid")
    unit = torch.eye(12 * 8, dtype=torch.float64).reshape(-1, 1, 12, 8)
    pulled = covariance.sqrt_transposed(operator.adjoint(cosine_inverse(unit)))
    diagonal = pulled.square().sum((1, 2, 3)).reshape(1, 12, 8)
    found = operator.spectrum(covariance)
    assert found is not None
    assert found.shape == diagonal.shape
    assert float((found / diagonal).log().abs().mean()) < 0.1
    assert operator.waves(covariance).shape == (2, *diagonal.shape)  # type: ignore[union-attr]


def test_kernels_of_other_sizes_are_joined():
    x = image(2, 2, 20, 17)
    apart = [MotionBlur((2, 20, 17), NOISE, torch.rand(1, 1, *size)) for size in [(3, 7), (5, 1)]]
    joined = MotionBlur.stack(apart)
    assert isinstance(joined, MotionBlur)
    expected = torch.cat([each.forward(x[b : b + 1]) for b, each in enumerate(apart)])
    torch.testing.assert_close(joined.forward(x), expected, atol=1e-12, rtol=0)
    assert not isinstance(
        MotionBlur.stack([apart[0], MotionBlur((2, 20, 17), NOISE, torch.rand(1, 1, 4, 4))]), MotionBlur
    )


@pytest.mark.parametrize("boundary", ["reflect", "periodic", "zero", "valid"])
def test_a_measurement_is_linear_in_the_kernel(boundary):
    kernel = torch.from_numpy(np.random.default_rng(1).random((2, 1, 5, 3)))
    operator = MotionBlur((2, 14, 11), NOISE, kernel, boundary)
    x = image(2, 2, 14, 11)
    y = operator.forward(x)
    other = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = (kernel[:, 0] * operator.kernel_adjoint(x, other)).sum((1, 2))
    torch.testing.assert_close(along, (y * other).sum((1, 2, 3)))


def test_an_unknown_kernel_is_simulated_by_a_random_one_of_its_size():
    random = build(Settings(kernel="random", kernel_size=7), (1, 20, 20), seed=3)
    unknown = build(Settings(kernel={"unknown": {"size": 7}}), (1, 20, 20), seed=3)
    x = image(1, 1, 20, 20)
    torch.testing.assert_close(unknown.forward(x), random.forward(x))
    parameters = unknown.parameters
    assert parameters.names[:8] == (*(f"kernel[0,{j}]" for j in range(7)), "kernel[1,0]")
    truth = parameters.truths(RandomStreams([0]))
    assert torch.equal(truth.reshape(7, 7), random.kernel[0, 0])
    torch.testing.assert_close(parameters.at(truth).forward(x), random.forward(x))
