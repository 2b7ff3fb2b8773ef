"""Simulated shakes and the pictures they blur, against closed forms and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve

from daps_operators.nonlinear_blur.network import (
    path_kernel,
)
from daps_operators.nonlinear_blur.pairs import (
    LIGHT,
    draw_pairs,
    draw_paths,
    draw_shapes,
    load_tiles,
    to_picture,
)
from tests.operators.nonlinear_blur.small_network import srgb_to_light

ROOT = Path(__file__).parents[3]


def test_simulated_paths_are_centred_and_within_bounds():
    rng = np.random.default_rng(0)
    paths = draw_paths(draw_shapes(50, rng), 400, 8, rng)
    lengths = paths.diff(dim=2).norm(dim=1).sum(1)
    assert float(paths.mean(2).abs().max()) < 1e-5
    assert float(paths.abs().max()) <= 8 + 1e-5
    assert float(lengths.max()) <= 16
    assert float(lengths.mean()) == pytest.approx(8, abs=0.8)
    sums = path_kernel(paths, 8).sum((1, 2))
    torch.testing.assert_close(sums, torch.ones(400))


def test_pairs_are_blurred_in_linear_light(astronaut):
    rng = np.random.default_rng(3)
    paths = draw_paths(draw_shapes(20, rng), 20, 8, rng)
    drawn = draw_pairs(astronaut[:20], paths, 64, 8, rng)
    kernels = path_kernel(paths, 8).double().numpy()
    unclipped = clipped = 0
    for u, v, kernel in zip(drawn.sharp.double(), drawn.blurred, kernels, strict=True):
        light = srgb_to_light(u.numpy())
        shaken = np.stack([convolve(plane, kernel, mode="constant")[8:-8, 8:-8] for plane in light])
        difference = np.asarray(to_picture(torch.from_numpy(shaken)) - v)
        if float(u.max()) < 0.9999:
            unclipped += 1
            assert np.abs(difference).max() < 1e-4
        else:
            clipped += 1
            assert difference.max() < 1e-4  # the scene is at least as bright as the picture tells
    assert unclipped >= 3
    assert clipped >= 3


def test_values_of_files_become_light():
    np.testing.assert_allclose(LIGHT, srgb_to_light(np.arange(256) / 255), rtol=1e-6)
    torch.testing.assert_close(
        to_picture(torch.from_numpy(LIGHT)), torch.arange(256) / 255, rtol=0, atol=1e-6
    )


def test_tiles_are_cut_at_halves_of_the_size(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (100, 165, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    (tiles,) = load_tiles(tmp_path, 40)
    assert [tile.shape for tile in tiles] == [(40, 40, 3)] * (2 * 4 + 1 * 2)
    np.testing.assert_array_equal(tiles[5], array[40:80, 40:80])
