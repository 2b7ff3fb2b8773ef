"""The cosine covariance against scipy's transform, and operators' preconditioners against dense matrices."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

import daps_operators
from daps_kit.contracts import Covariance, RandomStreams
from daps_kit.covariance import CosineCovariance, cosine_inverse, cosine_matrix, cosine_transform
from daps_kit.settings import GaussianNoiseSettings
from daps_samplers import Exact
from daps_samplers.target import GaussianTarget

CPU = torch.device("cpu")
SHAPE = (3, 8, 12)
SIZE = 3 * 8 * 12
NOISE = 0.1
OPERATORS = {
    "identity": daps_operators.Identity,
    "box": lambda noise: daps_operators.Inpainting(noise=noise),
    "random": lambda noise: daps_operators.Inpainting(noise=noise, mask="random"),
    "down_sampling": lambda noise: daps_operators.DownSampling(noise=noise, scale_factor=2),
    "gaussian_blur": lambda noise: daps_operators.GaussianBlur(noise=noise, kernel_size=5, intensity=1.0),
    "motion_blur": lambda noise: daps_operators.MotionBlur(noise=noise, kernel_size=5),
}


def make(name):
    return OPERATORS[name](noise=GaussianNoiseSettings(sigma=NOISE)).build(shape=SHAPE, seed=0, device=CPU)


def falling() -> CosineCovariance:
    """Variances from 1 down to 0.001, as those of images at a high noise level."""
    generator = torch.Generator().manual_seed(2)
    colours, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    radius = (torch.arange(8)[:, None] ** 2 + (torch.arange(12) * 2 / 3) ** 2).sqrt()
    return CosineCovariance((1 + radius) ** -3.0 * torch.tensor([3.0, 1.0, 0.3])[:, None, None], colours)


def matrix(apply, shape):
    """Return the matrix of a linear map of tensors of a shape, in double precision."""
    size = int(np.prod(shape))
    return apply(torch.eye(size).reshape(size, *shape)).flatten(1).double().T


def test_the_basis_is_that_of_the_cosine_transform():
    v = RandomStreams([0, 1]).normal(SHAPE)
    c = falling()
    rotated = np.einsum("bchw,cd->bdhw", v.numpy(), c.colours.numpy())
    expected = idctn(dctn(rotated, axes=(2, 3), norm="ortho") * c.power.numpy(), axes=(2, 3), norm="ortho")
    expected = np.einsum("bdhw,cd->bchw", expected, c.colours.numpy())
    torch.testing.assert_close(c.multiply(v), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.scale(c.scale(v)), c.multiply(v), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(Covariance.multiply(c, v), c.multiply(v), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.precision(c.multiply(v)), v, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        cosine_matrix(12) @ cosine_matrix(12).T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "spread"),
    [("identity", 1.001), ("down_sampling", 1.001), ("gaussian_blur", 2), ("motion_blur", 60), ("box", 60)],
)
def test_preconditioners_against_the_inverse(name, spread):
    """S times its preconditioner has eigenvalues near 1: their largest ratio bounds the steps that are needed."""
    operator, c = make(name), falling()
    inverse = operator.preconditioner(c, NOISE**2)
    shape = operator.forward(torch.zeros(1, *SHAPE)).shape[1:]
    p = matrix(inverse, shape)
    s = matrix(lambda z: operator.forward(c.multiply(operator.adjoint(z))), shape)
    s = s + NOISE**2 * torch.eye(len(s), dtype=s.dtype)
    if operator.observed is not None:
        kept = operator.observed.expand(1, *shape).flatten() > 0
        p, s = p[kept][:, kept], s[kept][:, kept]
    torch.testing.assert_close(p, p.T, rtol=1e-4, atol=1e-4)
    values = torch.linalg.eigvals(p @ s).real
    plain = torch.linalg.eigvalsh(s)
    ratio = float(values.max() / values.min())
    assert values.min() > 0
    assert ratio < spread
    assert ratio < float(plain.max() / plain.min()) / 5


class Unknown(Covariance):
    def scale(self, v):
        return v

    def precision(self, v):
        return v


@pytest.mark.parametrize("name", OPERATORS)
def test_no_preconditioner_for_a_covariance_that_is_not_known(name):
    assert make(name).preconditioner(Unknown(), 1.0) is None


@pytest.mark.parametrize("name", OPERATORS)
def test_draws_have_the_posterior_of_the_closed_form(name):
    operator, c, count = make(name), falling(), 3000
    centre = torch.full((1, *SHAPE), 0.2)
    y = operator.measure(0.3 * RandomStreams([3]).normal(SHAPE), RandomStreams([4]))
    target = GaussianTarget(
        centre.expand(count, -1, -1, -1),
        c,
        operator,
        y.expand(count, -1, -1, -1),
        sigma=1.0,
        likelihood_variance=NOISE**2,
    )
    x, info = Exact().build().run(target, target.centre, RandomStreams(range(count)))
    assert float(info.extra["residual"].max()) <= 0.05 * 1.01
    prior, a = matrix(c.multiply, SHAPE), matrix(operator.forward, SHAPE)
    precision = torch.linalg.inv(prior) + a.T @ a / NOISE**2
    misfit = (y - operator.forward(centre)).double().flatten()
    mean = centre.double().flatten() + torch.linalg.solve(precision, a.T @ misfit / NOISE**2)
    w = (x.double().flatten(1) - mean) @ torch.linalg.cholesky(precision)
    assert float(w.mean(0).abs().max()) < 4.5 / sqrt(count) + 0.05
    assert float(w.var(0).mean()) == pytest.approx(1, abs=0.01)
    covariance = torch.cov(w.T) - torch.eye(SIZE, dtype=w.dtype)
    assert float(covariance.abs().max()) < 4.5 * sqrt(2 / count) + 0.05


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
