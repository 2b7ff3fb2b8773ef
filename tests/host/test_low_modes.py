"""The coarsest patterns as a preconditioner, against dense inverses."""

from __future__ import annotations

import torch

from daps_kit.covariance import cosine_transform
from daps_kit.low_modes import STEEP, LowModes

SHAPE = (3, 10, 8)
PIXELS = 80
NOISE = 0.04


def power(seed=0, steep=1000.0):
    """Return variances that are large in the coarsest 5 x 4 functions and random elsewhere."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(SHAPE, generator=draw) + 0.1
    values[:, :5, :4] *= steep
    return values


def masks(count):
    return (torch.rand(count, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(1)) < 0.4).float()


def columns(apply, batch=1):
    """Return the matrices of a linear map of measurements, [batch, C, n, n], each colour by itself."""
    unit = torch.eye(PIXELS).reshape(PIXELS, 1, 1, *SHAPE[1:]).expand(-1, batch, 3, -1, -1)
    return torch.stack([apply(y) for y in unit]).flatten(3).permute(1, 2, 3, 0).double()


def test_exact_in_another_basis():
    """Where A is the identity and E is taken in the cosine basis, nothing is left out."""
    variances = power(2)
    modes = LowModes(lambda x: x, SHAPE, basis=cosine_transform)
    above, rest = modes.excess(variances)
    inverse = modes.inverse(above, 1 / (rest + NOISE).flatten(1)[None])
    y = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(inverse(y), y / (variances + NOISE), rtol=1e-3, atol=1e-4)


def test_symmetric_and_positive_definite():
    mask, variances = masks(2), power(4)
    modes = LowModes(lambda x: x * mask, SHAPE, 2)
    above, _ = modes.excess(variances)
    found = columns(modes.inverse(above, torch.full((1, 3, 1), 2.0)), 2)
    torch.testing.assert_close(found, found.mT, rtol=1e-4, atol=1e-4)
    assert float(torch.linalg.eigvalsh((found + found.mT) / 2).min()) > 0


def test_when_they_pay():
    flat, steep = torch.ones(SHAPE), torch.ones(SHAPE)
    steep[0, 0, 0] = 2 * STEEP * NOISE
    assert not LowModes.pay(flat * STEEP * NOISE * 0.9, NOISE)
    assert LowModes.pay(steep, NOISE)
    assert not LowModes.pay(torch.ones(1, 400, 400), 1e-6), "of a large picture they are too few"
