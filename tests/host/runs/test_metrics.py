"""PSNR and SSIM agree with the recorded values and with sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from daps_kit.runs.metrics import mean_and_error, psnr, score, ssim, to_unit


def test_equal_to_the_recorded_values(golden):
    arrays, params = golden("metrics_psnr_ssim")
    truth, sample = torch.tensor(arrays["gt"]), torch.tensor(arrays["sample"])
    large = [x[..., :32, :32].repeat_interleave(16, -1).repeat_interleave(16, -2) for x in (sample, truth)]
    medium = [x.repeat_interleave(8, -1).repeat_interleave(8, -2)[..., :256, :256] for x in (sample, truth)]
    cases = {
        "": (sample, truth),
        "512": large,
        "256": medium,
        "_identical": (truth, truth),
    }
    for suffix, (x, t) in cases.items():
        np.testing.assert_allclose(psnr(x, t).numpy(), arrays[f"psnr{suffix}"], atol=1e-5, rtol=1e-6)
        np.testing.assert_allclose(ssim(x, t).numpy(), arrays[f"ssim{suffix}"], atol=1e-5, rtol=0)
    report = torch.tensor(params["report"]["psnr"]["sample"])
    both = torch.stack([psnr(sample, truth), psnr(0.9 * truth, truth)], 1)
    torch.testing.assert_close(both, report, atol=1e-5, rtol=1e-6)


def test_psnr_by_hand():
    truth = torch.zeros(2, 1, 4, 4)
    sample = torch.stack([torch.full((1, 4, 4), 0.2), torch.full((1, 4, 4), -1.0)])
    # On [0, 1] the errors are 0.1 and 0.5.
    expected = [-10 * math.log10(0.01 + 1e-8), -10 * math.log10(0.25 + 1e-8)]
    assert psnr(sample, truth).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_flat_images_by_hand():
    a, b = 0.25, 0.75
    x = torch.full((1, 3, 12, 12), 2 * a - 1, dtype=torch.float64)
    y = torch.full((1, 3, 12, 12), 2 * b - 1, dtype=torch.float64)
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_needs_room_for_its_window():
    assert math.isnan(ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40)).item())


def test_each_image_is_judged_alone():
    draws = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(3, 3, 16, 16)
    for metric in (psnr, ssim):
        alone = torch.cat([metric(draws[i : i + 1], truth[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(metric(draws, truth), alone, atol=1e-6, rtol=1e-6)
        spoiled = draws.clone()
        spoiled[1] = float("nan")
        torch.testing.assert_close(metric(spoiled, truth)[[0, 2]], alone[[0, 2]], atol=1e-6, rtol=1e-6)


def test_to_unit_clips():
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_mean_and_standard_error_by_hand():
    # Sample standard deviation of 1, 2, 6 is sqrt(7).
    found = mean_and_error([1.0, None, 2.0, float("nan"), 6.0])
    assert found == {"mean": 3.0, "standard_error": pytest.approx(math.sqrt(7 / 3)), "images": 3}
    assert mean_and_error([4.0]) == {"mean": 4.0, "standard_error": None, "images": 1}
    assert mean_and_error([None, float("nan")]) is None


def test_scores_by_hand():
    truth = torch.zeros(1, 12, 12)
    samples = torch.stack([torch.full((1, 12, 12), value) for value in (0.4, -0.2)])
    found = score(samples, truth, lambda x: x.abs().flatten(1).mean(1) * 10)
    # On [0, 1] the errors are 0.2 and 0.1; the average of the samples is 0.1, an error of 0.05.
    assert found["reported"]["run"] == 1
    assert found["reported"]["residual"] == pytest.approx(2)
    assert found["reported"]["psnr"] == pytest.approx(20, abs=1e-3)
    assert found["samples"][0]["psnr"] == pytest.approx(-20 * math.log10(0.2), abs=1e-3)
    assert found["sample_mean"]["residual"] == pytest.approx(3)
    assert found["posterior_mean"]["psnr"] == pytest.approx(-20 * math.log10(0.05), abs=1e-3)
    assert found["oracle"]["psnr"] == found["reported"]["psnr"]
    assert found["reported_by"] == "residual"


def test_the_sample_that_is_shown_is_the_nearest_to_the_others_unless_there_are_modes():
    samples = torch.stack([torch.full((1, 12, 12), value) for value in (0.1, 0.3, 0.35, 0.9)])
    # Summed squares of the distances: .69, .425, .4275, .5375 + .39.
    near = score(samples, None, lambda x: x.flatten(1).mean(1))
    assert (near["reported"]["run"], near["reported_by"]) == (2, "medoid")
    fits = score(samples, None, lambda x: x.flatten(1).mean(1), multimodal=True)
    assert (fits["reported"]["run"], fits["reported_by"]) == (0, "residual")
    assert near["ensemble"] is None


def test_ssim_of_an_image_as_large_as_its_window():
    x = torch.rand(2, 1, 11, 11, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert math.isnan(float(ssim(x[:1, :, :10], x[:1, :, :10])))
