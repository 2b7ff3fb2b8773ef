"""The measured errors of a denoiser: known answers, the file, and what the sampler makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daps_kit.calibration import calibrate, calibrated, read_calibration, write_calibration
from daps_kit.contracts import RandomStreams
from daps_kit.errors import UserError
from daps_kit.linalg import inner
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.conditional import mean_variance

SHAPE = (3, 16, 16)
SIGMAS = (0.1, 0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of N(0, 0.5^2 I)."""
    prior = GaussianPrior(0.0, 0.5)
    x0 = prior.sample(SHAPE, RandomStreams(range(1024)))
    path = tmp_path_factory.mktemp("calibration") / "gaussian.safetensors"
    write_calibration(path, calibrate(prior.denoise, x0, sigmas=SIGMAS, draws=2))
    return path


def test_a_gaussian_has_the_known_error_at_every_frequency(file: Path) -> None:
    found = read_calibration(file)
    assert found.images == 1024
    for place, sigma in enumerate(SIGMAS):
        expected = 1 / (1 / 0.5**2 + 1 / sigma**2)
        assert float(found.mse[place]) == pytest.approx(expected, rel=0.02)
        torch.testing.assert_close(
            found.spectrum[place], torch.full_like(found.spectrum[place], expected), rtol=0.15, atol=0
        )
    # Between the levels of the table (linear in the logarithms), and for another size of images.
    covariance = found.covariance(0.7, 24, 32)
    v = RandomStreams([3]).normal((3, 24, 32))
    expected = 1 / (1 / 0.5**2 + 1 / 0.7**2)
    assert float(inner(v, covariance.multiply(v)) / inner(v, v)) == pytest.approx(expected, rel=0.08)


def test_the_mean_variance_is_the_trace(file: Path) -> None:
    covariance = read_calibration(file).covariance(0.5, *SHAPE[1:])
    trace = float(covariance.power.mean())
    assert float(mean_variance(covariance, torch.zeros(1, *SHAPE))) == pytest.approx(trace, rel=0.02)


def test_what_is_no_calibration_is_refused(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="not a whole"):
        read_calibration(broken)
    with pytest.raises(UserError, match="no such file"):
        read_calibration(tmp_path / "none.safetensors")
    other = GaussianPrior(torch.zeros(1, 16, 16), 0.5)
    with pytest.raises(UserError, match="a prior with 3 channels; this one has 1"):
        calibrated(other, file)
