"""The prior of photographs: its measured error at any size, its file, and the conformance kit.

Without its U-Net it is a Gaussian, whose errors are known in closed form.
"""

from __future__ import annotations

import functools

import pytest
import torch

from daps_kit.errors import UserError
from daps_kit.linalg import inner
from daps_kit.registry import default_registry
from daps_kit.testing import cases
from daps_priors.photos.calibration import calibrate_by_frequency
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.prior import PhotoPrior, load_photos
from daps_priors.photos.settings import Photos, PhotosGrey, shipped
from tests.priors.photos.small_prior import CPU, NETWORK, SIGMAS, draws


def test_a_sampler_is_told_the_covariance_of_the_pictures_size(gaussian):
    told = gaussian.sized((3, 24, 40))
    v = torch.randn(1, 3, 24, 40)
    covariance = told.denoising_covariance(0.3)
    assert float(inner(v, covariance.multiply(v))) > 0
    assert gaussian.denoising_covariance(0.3) is None
    assert gaussian.shape is None


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


def test_derivatives_and_dtypes(model, gaussian):
    prior = PhotoPrior(model, gaussian.calibration, {}, dtype="auto")
    x = torch.randn(1, 3, 12, 17)
    assert prior.denoise(x.double(), 0.4).dtype == torch.float64
    assert not prior.denoise(x, 0.4).requires_grad
    leaf = x.clone().requires_grad_()
    assert prior.denoise(leaf, 0.4).requires_grad


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
    calibration = calibrate_by_frequency(
        model, model.linear, draws(model, 64, 16, 16), sigmas=SIGMAS, draws=1
    )
    return PhotoPrior(model, calibration, {}, dtype="float32")


@pytest.mark.parametrize("check", cases("prior", lambda: _plain(), (3, 12, 20), name="photos"))
def test_conformance(check):
    check()
