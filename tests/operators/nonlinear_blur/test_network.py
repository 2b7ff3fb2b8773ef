"""The shake network and its encoder against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from daps_kit.noise import GaussianNoise
from daps_operators.nonlinear_blur.network import (
    BlurEncoder,
    Curve,
    ShakeNetwork,
    ShakeNetworkConfig,
    path_kernel,
)
from daps_operators.nonlinear_blur.operator import NonlinearBlur
from daps_operators.nonlinear_blur.pairs import (
    draw_paths,
    draw_shapes,
    to_picture,
)
from tests.operators.nonlinear_blur.small_network import SMALL, codes, pictures, small, srgb_to_light


def test_the_curve_starts_as_that_of_srgb_and_has_an_inverse():
    curve = Curve().double()
    u = torch.linspace(-0.1, 1.3, 2001, dtype=torch.float64)
    # the standard rounds the place where its two pieces meet: they differ by 4e-6 of full scale
    assert float((curve(u).detach() - torch.from_numpy(srgb_to_light(u.numpy()))).abs().max()) < 1e-5
    torch.testing.assert_close(curve.inverse(curve(u)), u, rtol=1e-12, atol=1e-12)
    slope = curve(u).detach().diff() / u.diff()
    assert float(slope.diff().abs().max()) < 3e-3  # no jump in the slope, where the pieces meet neither


def test_kernels_of_known_paths():
    rest = torch.zeros(1, 2, 10)
    assert torch.equal(path_kernel(rest, 2)[0], torch.eye(5)[:, [2]] @ torch.eye(5)[[2]])
    # uniform motion from -1 to 1 along x: the integral of the triangle over it, 1/4 1/2 1/4
    moments = (torch.arange(2000) + 0.5) / 1000 - 1
    line = path_kernel(torch.stack([moments, torch.zeros(2000)])[None].double(), 2)[0]
    torch.testing.assert_close(
        line[2], torch.tensor([0, 0.25, 0.5, 0.25, 0], dtype=torch.float64), rtol=0, atol=1e-6
    )
    assert float(line[[0, 1, 3, 4]].abs().max()) == 0
    point = path_kernel(torch.tensor([[[0.25], [-0.5]]]), 1)[0]  # x to the right, y downwards
    torch.testing.assert_close(point, torch.tensor([[0, 0.375, 0.125], [0, 0.375, 0.125], [0, 0, 0]]))


def test_the_network_starts_as_a_camera_that_knows_nothing_beyond_white():
    network, u, code = small().double(), 0.9 * pictures(2, 3, 24, 32).double(), codes(2, 12).double()
    blurred = network(u, code)
    assert blurred.shape == (2, 3, 16, 24)
    for row, kernel, found in zip(u.numpy(), network.adapter.kernel(code).numpy(), blurred, strict=True):
        shaken = np.stack([convolve(srgb_to_light(plane), kernel)[4:-4, 4:-4] for plane in row])
        assert float((to_picture(torch.from_numpy(shaken)) - found).abs().max()) < 2e-4


def test_every_code_is_a_blur():
    network = small()
    for scale in (0.0, 1.0, 100.0):
        kernels = network.adapter.kernel(scale * codes(50, 12))
        assert float(kernels.min()) >= 0
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(50), rtol=0, atol=1e-5)


def test_drawn_codes_have_the_covariance_of_the_shakes_they_start_from():
    torch.manual_seed(0)
    config = ShakeNetworkConfig(modes=20, kernel_dim=40, moments=32)
    network, rng = ShakeNetwork(config), np.random.default_rng(0)
    paths = torch.nn.functional.interpolate(draw_paths(draw_shapes(64, rng), 500, 8, rng), 32)
    network.start(paths)
    weight = network.adapter.path.weight.detach()
    x = paths.flatten(0, 1)
    expected = x.T @ x / len(x)
    covariance = weight @ weight.T
    torch.testing.assert_close(covariance[:32, :32], expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(covariance[32:, 32:], expected, rtol=0, atol=2e-2)
    assert float(covariance[:32, 32:].abs().max()) == 0


def test_exact_kernels_in_the_quotients():
    encoder = BlurEncoder(SMALL)
    kernels = path_kernel(torch.randn(2, 2, 30, generator=torch.Generator().manual_seed(0)), 4)
    assert torch.allclose(
        encoder.ideal_quotients(kernels, torch.ones(2, 3, 24, 13)), kernels[:, None], atol=1e-6
    )
    # a bright point: its blurred twin is the kernel, and the quotient is the kernel but for regularisation and window
    u, v = torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)
    u[..., 32, 32] = 1.0
    v[:, 0, 28:37, 28:37] = to_picture(kernels)
    found, responses = encoder.quotients(u, v)
    ideal = encoder.ideal_quotients(kernels, responses)
    assert found.shape == (2, 3, 9, 9)
    assert float((found - ideal).abs().max()) < 0.03 * float(ideal.max())


def test_derivatives_are_exact():
    network = small(beyond=0.02)
    shape = (3, 18, 21)
    operator = NonlinearBlur(shape, GaussianNoise(0.05), network, codes(1, 12)[..., None, None])
    x = 1.6 * pictures(2, *shape).double() - 0.9
    z, y = (pictures(2, *shape, seed=seed).double() - 0.5 for seed in (1, 2))
    product = operator.jvp(x, z)
    step = 1e-5
    difference = (operator.forward(x + step * z) - operator.forward(x - step * z)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-5, atol=1e-6)
    _, vjp = operator.forward_vjp(x)
    assert float((product * y).sum()) == pytest.approx(float((z * vjp(y)).sum()), rel=1e-10)
