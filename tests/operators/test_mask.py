"""Masks: where they hide, how they are drawn, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit.errors import UserError
from daps_kit.random import RandomStreams
from daps_operators import Inpainting
from tests.operators.inputs import build


def hidden_box(operator):
    """(height, width) of the hidden box and its least distances from the four borders."""
    rows, columns = np.nonzero(operator.state()["mask"][0, 0].numpy() == 0)
    mask_height, mask_width = operator.state()["mask"].shape[-2:]
    box = (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    assert rows.size == box[0] * box[1]
    return box, (rows.min(), mask_height - 1 - rows.max()), (columns.min(), mask_width - 1 - columns.max())


def test_box_masks_stay_in_their_ranges():
    settings = Inpainting(mask="box", mask_len_range=(5, 12), margin=3)
    boxes = [hidden_box(build(settings, seed=seed)) for seed in range(60)]
    for box, vertical, horizontal in boxes:
        assert 5 <= min(box) <= max(box) < 12
        assert min(*vertical, *horizontal) >= 3
    assert {side for box, *_ in boxes for side in box} == set(range(5, 12))
    assert len({vertical for _, vertical, _ in boxes}) > 20


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (33, 50), (8, 8), (2, 3)])
def test_box_defaults_fit_any_image(size):
    box, vertical, horizontal = hidden_box(build(Inpainting(), (1, *size)))
    assert box == (size[0] // 2, size[1] // 2)
    assert min(vertical) >= size[0] // 8
    assert min(horizontal) >= size[1] // 8


def test_random_masks_hide_the_stated_share():
    settings = Inpainting(mask="random", mask_prob_range=(0.2, 0.5))
    shares = [1 - build(settings, seed=seed).state()["mask"].mean().item() for seed in range(50)]
    assert min(shares) > 0.2 - 1 / 1536
    assert max(shares) < 0.5
    assert np.ptp(shares) > 0.2


def test_hidden_pixels_are_zero_unobserved_and_without_weight():
    operator = build(Inpainting(mask="random"), (3, 16, 16))
    mask = operator.state()["mask"]
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = operator.measure(x, RandomStreams([1, 2]))
    assert operator.observed.shape == mask.shape == (1, 1, 16, 16)
    assert (y[(mask == 0).expand_as(y)] == 0).all()
    seen = (mask == 1).expand_as(y)
    assert 0.04 < (y - x)[seen].std() < 0.06
    noise = torch.distributions.Normal(x.double(), 0.05)
    expected = (noise.log_prob(y.double()) * mask).flatten(1).sum(1)
    torch.testing.assert_close(operator.log_likelihood(x, y).double(), expected, rtol=1e-5, atol=0)
    residual = ((y - x)[seen].reshape(2, -1).square().mean(1)).sqrt() / 0.05
    torch.testing.assert_close(operator.residual(x, y), residual, rtol=1e-4, atol=0)


def test_a_mask_for_each_channel(tmp_path):
    mask = np.random.default_rng(0).random((3, 32, 48)) < 0.5
    np.save(tmp_path / "bayer.npy", mask)
    operator = build(Inpainting(mask=tmp_path / "bayer.npy"))
    np.testing.assert_array_equal(operator.forward(torch.ones(1, 3, 32, 48))[0], mask)


@pytest.mark.parametrize(("options", "message"), [
    ({"mask_len_range": (40, 41), "margin": 0}, "a box of 40 to 40 pixels with a margin of 0 does not fit"),
    ({"mask_len_range": (16, 17), "margin": 9}, "does not fit into an image of 32 x 48"),
])  # fmt: skip
def test_boxes_that_do_not_fit(options, message):
    with pytest.raises(UserError, match=message):
        build(Inpainting(**options))


def test_a_box_that_just_fits():
    box, vertical, _ = hidden_box(build(Inpainting(mask_len_range=(16, 17), margin=8)))
    assert (box, vertical) == ((16, 16), (8, 8))


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


@pytest.mark.parametrize("axes", [(32, 48, 1), (32, 48, 3), (1, 32, 48), (3, 32, 48), (1, 3, 32, 48)])
def test_masks_with_their_channels_first_or_last(tmp_path, axes):
    mask = np.random.default_rng(0).random((3, 32, 48)) < 0.5
    mask = mask if 3 in axes else mask[:1]
    stored = mask.transpose(1, 2, 0) if axes[0] == 32 else mask.reshape(axes)
    assert stored.shape == axes
    np.save(tmp_path / "m.npy", stored)
    read = build(Inpainting(mask=tmp_path / "m.npy")).state()["mask"][0]
    np.testing.assert_array_equal(read.numpy(), mask)


WRONG = [
    (np.ones((32, 47)), "32 x 47 values; the images have 32 x 48 pixels"),
    (np.full((32, 48), 0.5) + np.eye(32, 48), "values from 0.5 to 1.5"),
    (-np.ones((32, 48)), "allowed: 0 .hidden. and 1"),
    (np.full((32, 48), np.nan), "not finite"),
    (np.zeros((32, 48)), "hides every pixel"),
    (np.array([["a"]]), "real numbers"),
    (np.array([{}], dtype=object), "cannot read"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda v: str(v)[:12])
def test_wrong_arrays(tmp_path, values, message):
    np.save(tmp_path / "wrong.npy", values, allow_pickle=values.dtype == object)
    with pytest.raises(UserError, match=message) as caught:
        build(Inpainting(mask=tmp_path / "wrong.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrong.npy", "wrong.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        build(Inpainting(mask=tmp_path / name))


def test_a_mask_of_what_is_hidden(tmp_path):
    hidden = np.random.default_rng(0).random((32, 48)) < 0.3
    np.save(tmp_path / "hidden.npy", hidden)
    settings = Inpainting(mask=tmp_path / "hidden.npy", mask_is="hidden")
    np.testing.assert_array_equal(build(settings).state()["mask"][0, 0], ~hidden)
