"""The file of a prior of photographs: read back, and what is no such file."""

from __future__ import annotations

import pytest
import torch

from daps_kit.errors import UserError
from daps_kit.registry import default_registry
from daps_priors.photos import weights
from daps_priors.photos.denoiser import PhotoDenoiser
from daps_priors.photos.prior import PhotoPrior, load_photos
from daps_priors.photos.settings import Photos
from tests.priors.photos.small_prior import CPU, NETWORK


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
