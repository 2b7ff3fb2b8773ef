"""Settings of the priors that are known in closed form: files that are read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from daps_kit.errors import ComponentError, UserError
from daps_priors import Gaussian, Mixture
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.exact.mixture import MixturePrior
from tests.priors.exact.normal import SHAPE, bayes

CPU = torch.device("cpu")


def test_a_gaussian_is_built_from_files(tmp_path, mean, covariance):
    np.save(tmp_path / "mean.npy", mean.numpy())
    np.save(tmp_path / "covariance.npy", covariance.numpy())
    np.save(tmp_path / "std.npy", np.full(SHAPE, 0.3))
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    full = Gaussian(mean=tmp_path / "mean.npy", covariance=tmp_path / "covariance.npy")
    expected = bayes(x.double(), 0.5, mean, covariance).float()
    built = full.build(shape=SHAPE, device=CPU)
    torch.testing.assert_close(built.denoise(x, 0.5), expected, rtol=1e-4, atol=1e-5)
    assert built.shape == SHAPE
    assert Gaussian(std=tmp_path / "std.npy").build(shape=None, device=CPU).shape == SHAPE
    torch.testing.assert_close(
        Gaussian().build(shape=SHAPE, device=CPU).denoise(x, 0.5), GaussianPrior(0.0, 0.5).denoise(x, 0.5)
    )


def test_wrong_settings_of_a_gaussian_are_refused(tmp_path, mean):
    np.save(tmp_path / "mean.npy", mean.numpy())
    for given in (
        {"std": 0.0},
        {"std": 1.0, "covariance": tmp_path / "mean.npy"},
        {"mean": tmp_path / "no.npy"},
    ):
        with pytest.raises(ValidationError):
            Gaussian.model_validate(given)
    with pytest.raises(ComponentError, match="the run have"):
        Gaussian(mean=tmp_path / "mean.npy").build(shape=(3, 8, 8), device=CPU)
    (tmp_path / "text.npy").write_text("no numbers")
    with pytest.raises(UserError, match=r"cannot read .*text\.npy"):
        Gaussian(mean=tmp_path / "text.npy").build(shape=None, device=CPU)
    np.save(tmp_path / "nan.npy", np.full(SHAPE, np.nan))
    with pytest.raises(ComponentError, match="finite"):
        Gaussian(mean=tmp_path / "nan.npy").build(shape=None, device=CPU)


IMAGES = (1, 2, 3)


@pytest.fixture(scope="module")
def means():
    return torch.randn(4, *IMAGES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_mixture_is_built_from_settings(tmp_path, means):
    np.save(tmp_path / "means.npy", means.numpy())
    x = torch.randn(2, *IMAGES, generator=torch.Generator().manual_seed(1))
    built = Mixture(means=tmp_path / "means.npy", std=[0.1, 0.2, 0.3, 0.4]).build(shape=IMAGES, device=CPU)
    expected = MixturePrior(means, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)).denoise(x, 0.5)
    torch.testing.assert_close(built.denoise(x, 0.5), expected)
    plain = Mixture(weights=[1.0, 2.0], elementwise=True).build(shape=(3, 9, 9), device=CPU)
    assert plain.shape is None
    torch.testing.assert_close(plain.weights, torch.tensor([1, 2], dtype=torch.float64) / 3)


def test_wrong_settings_of_a_mixture_are_refused(tmp_path, means):
    for given in (
        {"std": 0.0},
        {"std": [0.1, -0.1]},
        {"weights": []},
        {"means": []},
        {"means": "no.npy"},
        {"k": 3},
    ):
        with pytest.raises(ValidationError):
            Mixture.model_validate(given)
    with pytest.raises(ComponentError, match="2 components need 2 std"):
        Mixture(std=[0.1, 0.2, 0.3]).build(shape=None, device=CPU)
    with pytest.raises(ComponentError, match="2 components need 2 weights"):
        Mixture(weights=[1.0]).build(shape=None, device=CPU)
    np.save(tmp_path / "means.npy", means.numpy())
    with pytest.raises(ComponentError, match="the run have"):
        Mixture(means=tmp_path / "means.npy").build(shape=(3, 8, 8), device=CPU)
    with pytest.raises(ComponentError, match="means must be"):
        MixturePrior(torch.zeros(2, 3), 0.1)
    with pytest.raises(ComponentError, match="positive"):
        MixturePrior(torch.zeros(2), 0.1, torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="this mixture is over"):
        MixturePrior(means, 0.1).denoise(torch.zeros(1, 3, 8, 8), 0.1)
