"""How kernels scale waves: against numpy's transform, and against the waves themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.noise import GaussianNoise
from daps_operators.gaussian_blur import GaussianBlur
from daps_operators.motion_blur import MotionBlur
from daps_operators.transfer import fast_length, gains, transfer

NOISE = GaussianNoise(0.1)
OBLIQUE = torch.from_numpy(np.random.default_rng(0).random((3, 5)))[None, None]
EVEN = torch.tensor([[1.0, 2.0, 1.0], [0.5, 3.0, 0.5], [1.0, 2.0, 1.0]], dtype=torch.float64)[None, None]


def test_a_wave_is_scaled_by_it():
    """Of a periodic picture a blur leaves each wave as it is but for its size."""
    found = transfer(OBLIQUE, (8, 10), "periodic")
    assert found is not None
    assert found.size == (8, 10)
    operator = MotionBlur((1, 8, 10), NOISE, OBLIQUE, "periodic")
    rows, columns = np.mgrid[:8, :10]
    for f, g in [(0, 0), (1, 2), (7, 2), (3, 5)]:
        phase = torch.from_numpy(2 * np.pi * (f * rows / 8 + g * columns / 10))[None, None]
        before = torch.stack((phase.cos(), phase.sin())).square().sum()
        after = torch.stack([operator.forward(wave) for wave in (phase.cos(), phase.sin())]).square().sum()
        assert float(found.power[0, 0, f, g]) == pytest.approx(float(after / before), rel=1e-9)


@pytest.mark.parametrize("boundary", ["reflect", "zero"])
def test_beyond_the_border_there_is_room_for_the_kernel(boundary):
    found = transfer(OBLIQUE, (30, 20), boundary)
    assert found is not None
    assert found.size == (32, 32)
    expected = np.abs(np.fft.rfft2(OBLIQUE[0, 0].numpy(), s=(32, 32))) ** 2
    np.testing.assert_allclose(found.power[0, 0], expected, atol=1e-10)
    both = transfer(torch.cat((OBLIQUE, 2 * OBLIQUE)), (30, 20), boundary)
    assert both is not None
    torch.testing.assert_close(both.power[1], 4 * found.power[0])


def test_none_where_cosine_functions_do():
    assert transfer(OBLIQUE, (30, 20), "valid") is None
    assert transfer(EVEN, (30, 20), "reflect") is None
    assert transfer(EVEN, (30, 20), "zero") is not None
    assert transfer(torch.cat((EVEN, EVEN.roll(1, -1))), (30, 20), "reflect") is not None


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_blurs_say_theirs(boundary):
    blur = GaussianBlur((1, 20, 30), NOISE, 5, 1.0, boundary)
    pixel = torch.zeros(1, 1, 20, 30, dtype=torch.float64)
    pixel[..., 10, 15] = 1
    seen = blur.forward(pixel)
    found = blur.transfer()
    assert found is not None
    expected = torch.fft.rfft2(seen, s=found.size).abs().square()
    torch.testing.assert_close(found.power, expected, atol=1e-10, rtol=0)
    motion = MotionBlur((1, 20, 30), NOISE, OBLIQUE, boundary).transfer()
    assert motion is not None
    torch.testing.assert_close(motion.power, transfer(OBLIQUE, (20, 30), boundary).power)  # type: ignore[union-attr]
    assert GaussianBlur((1, 20, 30), NOISE, 5, 1.0).transfer() is None


def test_gains_are_sums_over_the_kernel():
    f, g = torch.tensor([0.3, 1.2]), torch.tensor([-0.7])
    a, b = np.mgrid[:3, :5]
    expected = [abs((OBLIQUE[0, 0].numpy() * np.exp(1j * (x * a - 0.7 * b))).sum()) ** 2 for x in (0.3, 1.2)]
    np.testing.assert_allclose(gains(OBLIQUE, f, g)[0, 0, :, 0], expected, rtol=1e-6)


def test_lengths_are_a_little_longer_than_asked_for():
    assert [fast_length(n) for n in (1, 16, 17, 148, 530)] == [16, 16, 32, 160, 576]
