"""Masks and kernels from files, and what is wrong with some."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daps_kit.errors import UserError
from daps_operators import Inpainting, MotionBlur
from tests.operators.inputs import build


@pytest.mark.parametrize("name", ["m.npy", "bool.npy", "m4.npy", "m.png", "rgba.png", "bits.png"])
def test_mask_files(tmp_path, name):
    mask = np.random.default_rng(0).random((32, 48)) < 0.5
    path = tmp_path / name
    if name == "m.npy":
        np.save(path, mask.astype(np.uint8))
    elif name == "bool.npy":
        np.save(path, mask)
    elif name == "m4.npy":
        np.save(path, mask[None, None].astype(float))
    elif name == "m.png":
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    elif name == "rgba.png":
        Image.fromarray(mask.astype(np.uint8) * 255).convert("RGBA").save(path)
    else:
        Image.fromarray(mask).save(path)
    settings = Inpainting(mask=str(path), draw="per_image")
    assert not settings.per_image
    np.testing.assert_array_equal(build(settings).state()["mask"][0, 0], mask)


def test_kernel_files_are_scaled_to_sum_1(tmp_path):
    kernel = np.random.default_rng(0).random((7, 9))
    np.save(tmp_path / "k.npy", 5 * kernel)
    grey = np.round(255 * kernel).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "k.png")
    for name, expected in (("k.npy", kernel / kernel.sum()), ("k.png", grey / grey.sum())):
        settings = MotionBlur(kernel=str(tmp_path / name), draw="per_image")
        assert not settings.per_image
        read = build(settings).state()["kernel"]
        np.testing.assert_allclose(read[0, 0], expected, rtol=1e-12)


def test_a_deep_png_keeps_its_16_bits(tmp_path):
    kernel = np.random.default_rng(0).integers(0, 65536, (5, 5)).astype(np.uint16)
    Image.fromarray(kernel).save(tmp_path / "k.png")
    read = build(MotionBlur(kernel=tmp_path / "k.png")).state()["kernel"]
    np.testing.assert_allclose(read[0, 0], kernel / kernel.sum(dtype=float), rtol=1e-12)


WRONG_FILES = [
    (Inpainting, "mask", np.ones((32, 47)), "32 x 47 values; the images have 32 x 48 pixels"),
    (Inpainting, "mask", np.full((32, 48), 0.5) + np.eye(32, 48), "values from 0.5 to 1.5"),
    (Inpainting, "mask", -np.ones((32, 48)), "allowed: 0 .hidden. and 1"),
    (Inpainting, "mask", np.full((32, 48), np.nan), "not finite"),
    (Inpainting, "mask", np.zeros((32, 48)), "hides every pixel"),
    (Inpainting, "mask", np.array([["a"]]), "real numbers"),
    (Inpainting, "mask", np.array([{}], dtype=object), "cannot read"),
    (MotionBlur, "kernel", -np.ones((3, 3)), "the sum -9; allowed: a positive sum"),
    (MotionBlur, "kernel", np.array([[1.0, -1.0]]), "the sum 0"),
    (MotionBlur, "kernel", np.ones((2, 3, 3)), "3 axes"),
    (MotionBlur, "kernel", np.full((3, 3), np.inf), "not finite"),
    (MotionBlur, "kernel", np.zeros((0, 3)), "empty"),
    (MotionBlur, "kernel", np.ones((3, 3), dtype=complex), "real numbers"),
]


@pytest.mark.parametrize(("settings", "key", "values", "message"), WRONG_FILES, ids=lambda v: str(v)[:12])
def test_wrong_arrays(tmp_path, settings, key, values, message):
    np.save(tmp_path / "wrong.npy", values, allow_pickle=values.dtype == object)
    with pytest.raises(UserError, match=message) as caught:
        build(settings(**{key: tmp_path / "wrong.npy"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrong.npy", "wrong.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for settings in (Inpainting(mask=tmp_path / name), MotionBlur(kernel=tmp_path / name)):
        with pytest.raises(UserError, match="cannot read"):
            build(settings)
