"""Kernels of camera shake: equal to the recorded ones, and right at every size."""

from __future__ import annotations

import re

import numpy as np
import pytest

from daps_kit.errors import UserError
from daps_operators.motion_kernel import motion_kernel, shake_path


def spread(kernel: np.ndarray) -> tuple[float, float]:
    """Return the standard deviations along the principal axes of a kernel in pixels, the larger first."""
    rows, columns = np.indices(kernel.shape)
    points = np.stack([rows, columns]).reshape(2, -1)
    variances = np.linalg.eigvalsh(np.cov(points, aweights=kernel.ravel(), ddof=0))
    return float(np.sqrt(max(variances[1], 0))), float(np.sqrt(max(variances[0], 0)))


@pytest.mark.parametrize(("name", "count"), [("motion_kernels61", 9), ("motion_kernels_small", 36)])
def test_kernels_equal_the_recorded_ones(golden, name, count):
    arrays, _ = golden(name)
    assert len(arrays) == count
    for key, expected in arrays.items():
        seed, intensity = re.search(r"seed(\d+)_int([\d.]+)", key).groups()
        kernel = motion_kernel(expected.shape, float(intensity), np.random.RandomState(int(seed)))
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-6 * expected.max(), err_msg=key)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 15, 54, 61, 160, (9, 31), (40, 7)])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_kernels_of_every_size_are_distributions(size, intensity):
    for seed in range(20):
        kernel = motion_kernel(size, intensity, np.random.default_rng(seed))
        assert kernel.shape == ((size, size) if isinstance(size, int) else size)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-12)


def test_a_kernel_scales_with_its_size():
    """The same numbers at twice the size give the same curve, twice as large."""
    for seed in range(10):
        small = spread(motion_kernel(48, 0.5, np.random.default_rng(seed)))
        large = spread(motion_kernel(96, 0.5, np.random.default_rng(seed)))
        np.testing.assert_allclose(large, 2 * np.array(small), rtol=0.1, atol=0.7)


def test_kernels_are_centred():
    offsets = []
    for seed in range(50):
        kernel = motion_kernel(61, 0.5, np.random.default_rng(seed))
        offsets.append(np.array([(kernel * axis).sum() for axis in np.indices(kernel.shape)]) - 30)
    # The centre of mass of the path's points is exact; that of the drawn line differs a little at random.
    assert np.abs(np.mean(offsets, axis=0)).max() < 1
    assert np.abs(offsets).max() < 9


def test_intensity_bends_the_path():
    straight = [spread(motion_kernel(61, 0.0, np.random.default_rng(seed))) for seed in range(40)]
    bent = [spread(motion_kernel(61, 1.0, np.random.default_rng(seed))) for seed in range(40)]
    assert max(minor for _, minor in straight) < 1.5  # a line as wide as the blur that smooths it
    assert np.mean([minor for _, minor in bent]) > 2 * np.mean([minor for _, minor in straight])


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_the_length_of_the_path_follows_its_law(intensity):
    """T = 0.75 (U + U(0, s^2)) has mean 0.375 (1 + s^2) and variance 0.75^2 (1 + s^4) / 12."""
    rng = np.random.default_rng(0)
    paths = [shake_path(1.0, intensity, rng) for _ in range(2000)]
    lengths = [np.abs(np.diff(path)).sum() for path in paths]
    # The first step is not drawn, and the last one overshoots: each about a step, of mean (1.1 - s) / 31.
    allowed = (1.1 - intensity) / 31 + 4 * 0.75 * np.sqrt((1 + intensity**4) / 12 / len(paths))
    assert np.mean(lengths) == pytest.approx(0.375 * (1 + intensity**2), abs=allowed)
    assert max(abs(path.mean()) for path in paths) < 1e-12
    if intensity == 0:
        for path in paths:
            steps = np.diff(path)
            np.testing.assert_allclose(steps / np.abs(steps), steps[0] / abs(steps[0]), atol=1e-9)


def test_a_seed_gives_the_same_kernel_and_global_state_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = motion_kernel(31, 0.5, np.random.default_rng(7))
    np.testing.assert_array_equal(first, motion_kernel(31, 0.5, np.random.default_rng(7)))
    assert np.abs(first - motion_kernel(31, 0.5, np.random.default_rng(8))).max() > 0.01
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_wrong_arguments_are_named():
    with pytest.raises(UserError, match=r"at least 1 pixel, got 0 x 0"):
        motion_kernel(0, 0.5, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"between 0 and 1, got 1.5"):
        motion_kernel(15, 1.5, np.random.default_rng(0))
