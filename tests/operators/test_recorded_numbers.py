"""Forward, loss, gradient and measurement equal the numbers recorded from the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.noise import GaussianNoise
from daps_operators.down_sampling import DownSampling
from daps_operators.gaussian_blur import GaussianBlur, gaussian_taps
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_operators.mask import Inpainting, box_mask, random_mask
from daps_operators.motion_blur import MotionBlur

TOLERANCE = 1e-5
"""Of the largest entry of the recorded array."""

NOISE = GaussianNoise(0.05)


def assert_recorded(actual, recorded):
    actual, recorded = np.asarray(actual, dtype=float), np.asarray(recorded, dtype=float)
    assert actual.shape == recorded.shape
    np.testing.assert_allclose(actual, recorded, rtol=0, atol=TOLERANCE * np.abs(recorded).max())


def make(name, arrays, params, shape):
    match params["op"]:
        case "inpainting":
            return Inpainting(shape, NOISE, torch.from_numpy(arrays["mask"]))
        case "motion_blur":
            return MotionBlur(shape, NOISE, torch.from_numpy(arrays["kernel"])[None, None])
        case "gaussian_blur":
            return GaussianBlur(shape, NOISE, params["kernel_size"], params["intensity"])
        case "down_sampling":
            return DownSampling(shape, NOISE, params["scale_factor"])
        case "high_dynamic_range":
            return HighDynamicRange(shape, NOISE, params["scale"])
    raise AssertionError(name)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    "family", ["inpainting_box", "inpainting_random", "down_sampling", "gaussian_blur", "motion_blur", "hdr"]
)
def test_small_images(golden, family, size):
    arrays, params = golden(f"op_{family}_{size}")
    x, x2, y = (torch.from_numpy(arrays[key]) for key in ("x", "x2", "y"))
    operator = make(family, arrays, params, tuple(x.shape[1:]))
    assert_recorded(operator.forward(x), arrays["out"])
    assert_recorded(operator.loss(x2, y), arrays["loss"])
    loss, gradient = operator.loss_grad(x2, y)
    assert_recorded(loss, arrays["loss"])
    assert_recorded(gradient, arrays["grad"])
    if "measured" in arrays:
        assert_recorded(operator.forward(x) + 0.05 * torch.from_numpy(arrays["noise"]), arrays["measured"])


@pytest.mark.parametrize(
    ("family", "stride"), [("down_sampling", 1), ("gaussian_blur", 5), ("motion_blur", 5)]
)
def test_images_of_256_pixels(golden, family, stride):
    arrays, params = golden(f"op256_{family}")
    x, x2, y = (
        torch.from_numpy(arrays[f"{key}_small"]).repeat_interleave(8, -1).repeat_interleave(8, -2)
        for key in ("x", "x2", "y")
    )
    operator = make(family, arrays, params, (3, 256, 256))
    out = operator.forward(x)
    loss, gradient = operator.loss_grad(x2, y)
    assert_recorded(out[..., 1::stride, 0::stride], arrays["out_sub"])
    assert_recorded(loss, arrays["loss"])
    assert_recorded(gradient[..., 3::8, 5::8], arrays["grad_sub"])
    for tensor, recorded in ((out, params["out_stats"]), (gradient, params["grad_stats"])):
        total, norm, low, high = recorded
        t = tensor.double()
        assert t.norm().item() == pytest.approx(norm, rel=TOLERANCE)
        assert t.sum().item() == pytest.approx(total, abs=TOLERANCE * norm * t.numel() ** 0.5)
        assert [t.min().item(), t.max().item()] == pytest.approx([low, high], abs=TOLERANCE * max(high, -low))


def test_gaussian_kernels(golden):
    for name in ("op_gaussian_blur_32", "op_gaussian_blur_64"):
        arrays, params = golden(name)
        taps = gaussian_taps(params["kernel_size"], params["intensity"])
        assert_recorded(np.outer(taps, taps), arrays["kernel"])


def test_resize_kernels(golden):
    arrays, params = golden("resizer")
    assert len(params["cases"]) == 12
    for kernel, scale in params["cases"]:
        operator = DownSampling((3, 48, 48), NOISE, 1 / scale, kernel or "cubic")
        assert_recorded(operator.forward(torch.from_numpy(arrays["x"])), arrays[f"out_{kernel}_{scale:.4f}"])


def test_masks_are_drawn_as_published(golden):
    arrays, params = golden("op_inpainting_masks256")
    rng = np.random.RandomState(params["np_seed"])
    box = box_mask(rng, (256, 256), [(128, 129)] * 2, (32, 32))
    np.testing.assert_array_equal(box, arrays["box"])
    np.testing.assert_array_equal(~box, arrays["extreme"])
    rng = np.random.RandomState(params["np_seed"])
    np.testing.assert_array_equal(random_mask(rng, (256, 256), (0.70, 0.71)), arrays["random"])
    for size in (32, 64):
        arrays, params = golden(f"op_inpainting_random_{size}")
        rng = np.random.RandomState(params["np_seed"])
        mask = random_mask(rng, (size, size), tuple(params["mask_prob_range"]))
        np.testing.assert_array_equal(mask, arrays["mask"][0, 0])
