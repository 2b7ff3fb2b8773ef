"""The prior of photographs: its measured error at any size, its file, and the conformance kit.

Without its U-Net it is a Gaussian, whose errors are known in closed form.
"""

from __future__ import annotations

import functools

import pytest
import torch

from daps_kit.covariance import cosine_inverse
from daps_kit.errors import UserError
from daps_kit.linalg import inner
from daps_kit.registry import default_registry
from daps_kit.testing import cases
from daps_priors.photos import weights
from daps_priors.photos.calibration import PhotoCalibration, calibrate
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.prior import PhotoPrior, load_photos, quickest
from daps_priors.photos.settings import Photos, PhotosGrey, shipped

CPU = torch.device("cpu")
NETWORK = {"widths": (8, 16, 16), "blocks": (1, 2, 1), "embedding": 16}
SIGMAS = (0.02, 0.1, 0.5, 2.0, 10.0)


def draws(model: PhotoDenoiser, count: int, height: int, width: int) -> torch.Tensor:
    """Return pictures of the Gaussian that the linear denoiser is of."""
    spectrum = model.linear.spectrum(height, width)
    noise = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height))
    field = cosine_inverse(spectrum.sqrt() * noise)
    return torch.einsum("ndhw,cd->nchw", field, model.linear.colours) + model.linear.mean[:, None, None]


@pytest.fixture(scope="module")
def gaussian(model) -> PhotoPrior:
    """The same denoiser without its U-Net, and its errors measured on its own pictures of 32 x 32."""
    plain = PhotoDenoiser(3, **NETWORK, sigma_range=(0.01, 20.0))
    plain.linear.load_state_dict(model.linear.state_dict())
    plain.eval().requires_grad_(False)
    calibration = calibrate(plain, plain.linear, draws(plain, 128, 32, 32), sigmas=SIGMAS, draws=1)
    return PhotoPrior(plain, calibration, {}, dtype="float32")


def expected(prior: PhotoPrior, sigma: float, height: int, width: int) -> torch.Tensor:
    spectrum = prior.model.linear.spectrum(height, width)
    return spectrum * sigma**2 / (spectrum + sigma**2)


@pytest.mark.parametrize("sigma", [0.001, 0.02, 0.3, 10.0, 300.0])
@pytest.mark.parametrize("size", [(32, 32), (20, 70), (300, 8)])
def test_the_covariance_is_that_of_the_gaussian_at_any_size(gaussian, size, sigma):
    x = torch.zeros(1, 3, *size)
    covariance = gaussian.conditional_covariance(x, sigma)
    wanted = expected(gaussian, sigma, *size)
    torch.testing.assert_close(covariance.power.mean((1, 2)), wanted.mean((1, 2)), rtol=0.2, atol=0)
    assert float((covariance.power / wanted).log().abs().max()) < 0.5
    assert float((covariance.power / wanted).log().abs().mean()) < 0.1


def test_the_errors_by_noise_level(gaussian):
    found = gaussian.calibration
    for sigma, mse in zip(SIGMAS, found.mse.tolist(), strict=True):
        assert mse == pytest.approx(float(expected(gaussian, sigma, 32, 32).mean()), rel=0.1)
    assert found.images == 128
    assert found.lowest == 1 / 64


def test_ratios_are_read_between_rings_and_levels(gaussian):
    linear = gaussian.model.linear
    ratio = torch.tensor([[[1.0, 2.0, 4.0]] * 3, [[2.0, 4.0, 8.0]] * 3])
    table = PhotoCalibration(torch.tensor([0.1, 0.4]), torch.ones(2), ratio, 0.125, linear, 1)
    got = table.covariance(0.2, 8, 8).power / expected(gaussian, 0.2, 8, 8)
    half = 2**0.5  # between the levels
    place = 2 * torch.hypot(torch.arange(8.0)[:, None], torch.arange(8.0)).div(16).div(0.125).log2()
    place[0, 0] = -1
    torch.testing.assert_close(got[0], half * 2 ** place.clamp(0, 2), rtol=1e-4, atol=0)
    # Beyond the levels the ratio stays.
    for sigma, last in ((0.01, 0), (9.0, 1)):
        got = table.covariance(sigma, 8, 8).power / expected(gaussian, sigma, 8, 8)
        assert float(got[1, 0, 0]) == pytest.approx(float(ratio[last, 0, 0]), rel=1e-4)


def test_a_ring_without_frequencies_is_like_the_one_before(gaussian):
    pictures = draws(gaussian.model, 2, 8, 64)
    found = calibrate(gaussian.model, gaussian.model.linear, pictures, sigmas=(0.1, 1.0), draws=1)
    assert bool(torch.isfinite(found.ratio).all())
    torch.testing.assert_close(found.ratio[..., 1], found.ratio[..., 0])


def test_a_sampler_is_told_the_covariance_of_the_pictures_size(gaussian):
    told = gaussian.sized((3, 24, 40))
    v = torch.randn(1, 3, 24, 40)
    covariance = told.denoising_covariance(0.3)
    assert float(inner(v, covariance.multiply(v))) > 0
    assert gaussian.denoising_covariance(0.3) is None
    assert gaussian.shape is None


@pytest.fixture
def file(model, gaussian, tmp_path):
    path = tmp_path / "photos.safetensors"
    weights.save(path, model, NETWORK, gaussian.calibration, {"card": {"title": "small"}})
    return path


def test_a_file_gives_the_prior_back(model, gaussian, file):
    state = torch.get_rng_state()
    prior = load_photos(file, shape=None, device=CPU, dtype="float32")
    assert torch.equal(state, torch.get_rng_state())
    assert (prior.channels, prior.shape) == (3, None)
    assert prior.description["card"] == {"title": "small"}
    x = torch.randn(2, 3, 20, 27)
    wanted = PhotoDenoiser(3, **NETWORK, sigma_range=(0.01, 20.0))
    wanted.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    wanted.linear.load_state_dict(model.linear.state_dict())
    torch.testing.assert_close(
        prior.denoise(x, 0.3), wanted(x, torch.tensor(0.3)).detach(), rtol=1e-5, atol=1e-5
    )
    a, b = (p.conditional_covariance(x, 0.3).power for p in (prior, gaussian))
    torch.testing.assert_close(a, b)


def test_trained_reads_it_too(file):
    settings = default_registry().find("prior", "trained").settings
    prior = settings(path=file).build(shape=(3, 9, 30), device=CPU)
    assert isinstance(prior, PhotoPrior)
    with pytest.raises(UserError, match="no compile and no calibration"):
        settings(path=file, compile=True).build(shape=None, device=CPU)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 32, 32), r"colour pictures of 3 channel\(s\), but those of the run have 1"),
        ((3, 7, 32), "from 8 x 8 pixels up, but those of the run have 7 x 32"),
        ((3, 1, 300), "from 8 x 8 pixels up, but those of the run have 1 x 300"),
    ],
)
def test_pictures_that_do_not_fit(gaussian, file, shape, words):
    with pytest.raises(UserError, match=words):
        load_photos(file, shape=shape, device=CPU)
    with pytest.raises(UserError, match=words):
        gaussian.denoise(torch.zeros(1, *shape), 0.5)


def test_files_that_are_not_of_this_kind(model, gaussian, tmp_path, file):
    embedded = default_registry().find("prior", "embedded")
    portraits = Photos.file.parent / "portraits64.safetensors"
    assert embedded is not None
    with pytest.raises(UserError, match="holds a denoiser, not"):
        load_photos(portraits, shape=None, device=CPU)
    with pytest.raises(UserError, match="no such file"):
        load_photos(tmp_path / "none.safetensors", shape=None, device=CPU)
    other = tmp_path / "other.safetensors"
    weights.save(other, model, NETWORK | {"embedding": 24}, gaussian.calibration, {})
    with pytest.raises(UserError, match="do not fit"):
        load_photos(other, shape=None, device=CPU)
    spoilt = PhotoDenoiser(3, **NETWORK)
    spoilt.load_state_dict(model.state_dict())
    spoilt.unet.out.bias.data[0] = torch.nan
    weights.save(other, spoilt, NETWORK, gaussian.calibration, {})
    with pytest.raises(UserError, match="not finite"):
        load_photos(other, shape=None, device=CPU)


def test_derivatives_and_dtypes(model, gaussian):
    prior = PhotoPrior(model, gaussian.calibration, {}, dtype="auto")
    x = torch.randn(1, 3, 12, 17)
    assert prior.denoise(x.double(), 0.4).dtype == torch.float64
    assert not prior.denoise(x, 0.4).requires_grad
    leaf = x.clone().requires_grad_()
    assert prior.denoise(leaf, 0.4).requires_grad
    capable = torch.backends.cpu.get_cpu_capability()
    assert quickest(CPU) in (torch.float32, torch.bfloat16)
    if "AVX512" not in capable:
        assert quickest(CPU) == torch.float32
    assert quickest(torch.device("meta")) == torch.float32


def test_the_prior_of_faces_names_this_one():
    embedded = default_registry().find("prior", "embedded").settings()
    with pytest.raises(UserError, match=r"the run have \[3, 512, 384\]: .*`prior: \{use: photos\}`"):
        embedded.build(shape=(3, 512, 384), device=CPU)
    assert "photos" in embedded.build(shape=None, device=CPU).advice


def test_grey_photographs_are_offered_where_their_weights_are(monkeypatch, file, tmp_path):
    for path, names in ((file, ["photos", "photos_grey"]), (tmp_path / "none.safetensors", ["photos"])):
        monkeypatch.setattr(PhotosGrey, "file", path)
        assert [kind.name for kind in shipped()] == names
    monkeypatch.setattr(Photos, "file", file)
    prior = Photos(dtype="float32").build(shape=(3, 20, 30), device=CPU)
    assert (prior.channels, prior.dtype) == (3, "float32")


@functools.cache
def _plain() -> PhotoPrior:
    model = PhotoDenoiser(3, **NETWORK)
    model.linear.level.copy_(torch.tensor([-6.0, -9.0, -10.0]))
    model.linear.slope.copy_(torch.tensor([2.3, 2.6, 2.5]))
    model.eval().requires_grad_(False)
    calibration = calibrate(model, model.linear, draws(model, 64, 16, 16), sigmas=SIGMAS, draws=1)
    return PhotoPrior(model, calibration, {}, dtype="float32")


@pytest.mark.parametrize("check", cases("prior", lambda: _plain(), (3, 12, 20), name="photos"))
def test_conformance(check):
    check()
