"""Which pixels a mask asks for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daps_kit.errors import UserError
from daps_kit.restore.mask import read_holes

HOLES = np.zeros((6, 9), bool)
HOLES[2:4, 1:7] = True


def test_white_is_filled(tmp_path):
    levels = np.where(HOLES, 230, 40).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([levels] * 3)).save(tmp_path / "colour.jpg", quality=100)
    Image.fromarray(HOLES).save(tmp_path / "bits.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.save(tmp_path / "bits.npy", HOLES)
    np.save(tmp_path / "real.npy", HOLES[None].astype(float))
    np.save(tmp_path / "whole.npy", HOLES.astype(np.int64))
    for name in ("grey.png", "colour.jpg", "bits.png", "deep.png", "bits.npy", "real.npy", "whole.npy"):
        assert np.array_equal(read_holes(tmp_path / name), HOLES), name


def test_transparent_is_filled_whatever_the_rest_shows(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    colour[0] = 255
    Image.fromarray(np.dstack([colour, np.where(HOLES, 0, 255).astype(np.uint8)])).save(tmp_path / "m.png")
    assert np.array_equal(read_holes(tmp_path / "m.png"), HOLES)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((6, 9)), "nothing is white or transparent"),
        (np.ones((6, 9)), "everything is white or transparent"),
        (np.ones((2, 6, 9)), r"has the shape \[2, 6, 9\]"),
    ],
)
def test_masks_that_mean_nothing(tmp_path, values, what):
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(UserError, match=what):
        read_holes(tmp_path / "m.npy")


def test_white_on_transparent_is_asked_about(tmp_path):
    white = np.full((6, 9, 3), 255, np.uint8)
    Image.fromarray(np.dstack([white, np.where(HOLES, 255, 0).astype(np.uint8)])).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m.png is white on transparent, and either may be meant"):
        read_holes(tmp_path / "m.png")
