"""How blurred pictures are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from daps_operators.nonlinear_blur.measure import fit_code, linear_blur, psnr
from tests.operators.nonlinear_blur.small_network import codes, pictures, small


def test_linear_blurs_are_found_by_least_squares():
    u = pictures(3, 3, 30, 28)
    kernels = pictures(3, 5, 5, seed=1)
    kernels[1] = kernels[2] = kernels[0]
    v = torch.stack(
        [
            torch.from_numpy(np.stack([convolve(plane, k[::-1, ::-1])[3:-3, 3:-3] for plane in row.numpy()]))
            for row, k in zip(u, kernels.numpy() / 20, strict=True)
        ]
    )
    own, one = linear_blur(u, v, 2)
    assert float((own - v).abs().max()) < 1e-4
    assert float((one - v).abs().max()) < 1e-4
    v[0] = v[0] * 0.5
    own, one = linear_blur(u, v, 2)
    assert float((own - v).abs().max()) < 1e-4
    assert float((one - v).abs().max()) > 1e-2


def test_psnr_is_that_of_the_definition():
    truth = torch.full((1, 3, 4, 4), 0.5)
    assert float(psnr(truth + 0.1, truth)) == pytest.approx(20, abs=1e-4)
    assert float(psnr(truth, truth)) == pytest.approx(100)


def test_a_code_is_found_again():
    network, u = small(beyond=0.02), pictures(2, 3, 40, 40)
    code = codes(2, 12)
    v = network(u, code)
    start = code + 0.1 * codes(2, 12, seed=1)
    before = (network(u, start) - v).square().sum()
    after = (network(u, fit_code(network, u, v, start, steps=12)) - v).square().sum()
    assert float(after) < 1e-2 * float(before)
