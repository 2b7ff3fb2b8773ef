"""Covariances: the cosine transform against scipy's, products against their definitions."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from daps_kit.contracts import Covariance, RandomStreams
from daps_kit.covariance import (
    Diagonal,
    Isotropic,
    LocalCovariance,
    LowRank,
    cosine_inverse,
    cosine_matrix,
    cosine_transform,
)
from tests.falling_spectrum import SHAPE, falling, local, steeper


def test_the_basis_is_that_of_the_cosine_transform():
    v = RandomStreams([0, 1]).normal(SHAPE)
    c = falling()
    rotated = np.einsum("bchw,cd->bdhw", v.numpy(), c.colours.numpy())
    expected = idctn(dctn(rotated, axes=(2, 3), norm="ortho") * c.power.numpy(), axes=(2, 3), norm="ortho")
    expected = np.einsum("bdhw,cd->bchw", expected, c.colours.numpy())
    torch.testing.assert_close(c.multiply(v), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.sqrt(c.sqrt_transposed(v)), c.multiply(v), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((c.sqrt(v) * v.flip(0)).sum(), (v * c.sqrt_transposed(v.flip(0))).sum())
    torch.testing.assert_close(Covariance.multiply(c, v), c.multiply(v), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.precision(c.multiply(v)), v, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        cosine_matrix(12) @ cosine_matrix(12).T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_isotropic_products():
    v = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for variance in (torch.tensor(0.25), torch.tensor([0.25, 4.0])):
        covariance = Isotropic(variance)
        torch.testing.assert_close(covariance.precision(covariance.sqrt(covariance.sqrt(v))), v)
        assert covariance.isotropic is variance


@pytest.mark.parametrize("size", [(257, 300), (8, 301), (258, 5)])
def test_the_transform_of_long_axes_is_scipys(size):
    x = torch.randn(
        2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    z = cosine_transform(x)
    wanted = torch.from_numpy(dctn(x.detach().numpy(), axes=(1, 2), norm="ortho"))
    torch.testing.assert_close(z, wanted, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(cosine_inverse(wanted), x, rtol=1e-11, atol=1e-11)
    # The transform is orthonormal: its derivative applied to a dual vector is the inverse.
    (gradient,) = torch.autograd.grad(z, x, wanted.flip(0))
    torch.testing.assert_close(gradient, x.flip(0), rtol=1e-11, atol=1e-11)
    single = cosine_inverse(cosine_transform(x.detach().float()))
    torch.testing.assert_close(single, x.detach().float(), rtol=1e-5, atol=1e-5)


def low_rank():
    basis, _ = torch.linalg.qr(torch.randn(12, 3, generator=torch.Generator().manual_seed(3)))
    spread = torch.diag(torch.tensor([0.5, 0.2, 0.0]))
    return LowRank(torch.tensor([0.1, 0.3]), basis.T, torch.stack([spread, 2 * spread]))


INDEPENDENT = {
    "isotropic": (Isotropic(torch.tensor([0.25, 4.0])), (3, 2, 2)),
    "diagonal": (
        Diagonal(torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(4)) + 0.1),
        (3, 2, 2),
    ),
    "low rank": (low_rank(), (3, 2, 2)),
    "cosine": (falling(), SHAPE),
    "local": (local(2), SHAPE),
    "of each sample": (steeper(), SHAPE),
    "local, of each sample": (LocalCovariance(steeper(), local(2).scale), SHAPE),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_the_independent_part(name):
    covariance, shape = INDEPENDENT[name]
    size = math.prod(shape)
    found = covariance.independent()
    assert found is not None
    each = found[0].reshape(-1, *(1,) * 3) if found[0].ndim < 2 else found[0]
    d = torch.diag_embed(each.expand(2, *shape).flatten(1).double())

    def matrix(apply):
        unit = torch.eye(size).reshape(size, 1, *shape)
        return torch.stack([apply(row.expand(2, *shape)).flatten(1).double() for row in unit], 2)

    def given(call, v):
        """Draw with v as the normal numbers of one call, and 0 as those of the others."""
        calls = iter(v if k == call else torch.zeros_like(v) for k in range(3))
        return found[1](lambda: next(calls))

    c = matrix(covariance.multiply)
    root = torch.cat([matrix(partial(given, call)) for call in range(3)], 2)
    assert (
        float(torch.linalg.eigvalsh((c - d + (c - d).mT) / 2).min()) > -1e-5
    )  # what remains is a covariance
    assert float(d.diagonal(dim1=1, dim2=2).min()) > 0
    torch.testing.assert_close(root @ root.mT, d - d @ torch.linalg.solve(c, d), rtol=1e-3, atol=1e-5)


def test_a_covariance_that_differs_from_place_to_place():
    covariance, v = local(2), RandomStreams([0, 1]).normal(SHAPE)
    even, size = falling(), math.prod(SHAPE)

    def matrix(apply):
        unit = torch.eye(size).reshape(size, 1, *SHAPE)
        return torch.stack([apply(row.expand(2, *SHAPE)).flatten(1).double() for row in unit], 2)

    turn = torch.kron(even.colours.double().contiguous(), torch.eye(size // 3, dtype=torch.float64))
    scale = torch.diag_embed(covariance.scale.flatten(1).double())
    transform = torch.kron(torch.eye(3, dtype=torch.float64), torch.kron(cosine_matrix(8), cosine_matrix(12)))
    spectrum = transform.T @ torch.diag(even.power.flatten().double()) @ transform
    expected, root = turn @ scale @ spectrum @ scale @ turn.T, matrix(covariance.sqrt)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(matrix(covariance.multiply), expected, **close)
    torch.testing.assert_close(root @ root.mT, expected, **close)
    torch.testing.assert_close(matrix(covariance.sqrt_transposed), root.mT, **close)
    torch.testing.assert_close(covariance.precision(covariance.multiply(v)), v, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["of each sample", "local, of each sample"])
def test_a_sample_has_its_own_spectrum(name):
    covariance, v = INDEPENDENT[name][0], RandomStreams([0, 1]).normal(SHAPE)
    for apply in ("sqrt", "sqrt_transposed", "multiply", "precision"):
        whole = getattr(covariance, apply)(v)
        for sample in (0, 1):
            one = covariance.of(sample)
            assert one.of(0).multiply(v).shape == v.shape
            torch.testing.assert_close(
                getattr(one, apply)(v[sample : sample + 1]), whole[sample : sample + 1]
            )
    assert float((covariance.multiply(v[:1].expand_as(v)).diff(dim=0)).abs().max()) > 0.1


def test_the_common_spectrum_of_samples():
    each = steeper()
    torch.testing.assert_close(each.common.power.square(), each.power.prod(0))
    assert falling().common.power.shape == SHAPE
