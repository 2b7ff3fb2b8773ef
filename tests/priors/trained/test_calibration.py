"""How wrong the denoiser is, as its file and its samplers have it."""

from __future__ import annotations

import pytest
import torch

from daps_kit.calibration import CalibrationTable, calibrate, rings
from daps_priors.trained.network import Denoiser
from tests.priors.trained.small import SHAPE, images


def test_the_covariance_is_the_measured_error(model: Denoiser) -> None:
    x0 = images(64, 11)
    measured = calibrate(model, x0, sigmas=(0.1, 0.5, 2.0))
    for i, sigma in enumerate((0.1, 0.5, 2.0)):
        covariance = measured.covariance(sigma, *SHAPE[1:])
        noise = torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(12))
        drawn = covariance.sqrt(noise)
        assert drawn.square().mean() == pytest.approx(float(measured.mse[i]), rel=0.03)
        back = covariance.sqrt_transposed(covariance.precision(drawn))
        torch.testing.assert_close(back, noise, rtol=1e-3, atol=2e-3)
        ring = (
            torch.fft.rfft2(torch.einsum("nchw,cd->ndhw", drawn, measured.colours), norm="ortho")
            .abs()
            .square()
        )
        inner = rings(*SHAPE[1:]) == 2  # of the periodic transform, which the cosine basis is not quite
        torch.testing.assert_close(
            ring.mean(0)[:, inner].mean(1), measured.spectrum[i, :, 2], rtol=0.15, atol=0
        )


def test_the_covariance_between_and_beyond_the_levels() -> None:
    table = CalibrationTable(
        sigma=torch.tensor([0.1, 1.0]),
        mse=torch.tensor([0.01, 0.04]),
        spectrum=torch.tensor([0.01, 0.04])[:, None, None].expand(2, 1, 4),
        colours=torch.eye(1),
        images=1,
    )
    power = [float(table.covariance(s, 4, 4).power[0, 0, 0]) for s in (0.01, 0.1, 0.1**0.5, 1.0, 50.0)]
    assert power == pytest.approx([0.0001, 0.01, 0.02, 0.04, 0.04], rel=1e-5)
