"""A head that tells the variance of each place: what it makes of a covariance, and its file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from daps_kit.calibration import CalibrationTable, read_calibration, write_calibration
from daps_kit.contracts import Prior, RandomStreams
from daps_kit.covariance import cosine_transform
from daps_kit.errors import UserError
from daps_kit.variance_head import LocalErrors, VarianceHead, ratios
from tests.falling_spectrum import SHAPE, falling

SIGMAS = torch.tensor([0.1, 1.0])


@pytest.fixture(scope="module")
def head():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = VarianceHead(3, 8, (1, 2))
        for p in made.parameters():
            p.data.add_(0.2 * torch.randn(p.shape)).copy_(p.half())
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def local(head):
    lowest = 1 / 24
    rings = ratios(torch.ones(1, *SHAPE), lowest).shape
    ratio = torch.rand(2, *rings, generator=torch.Generator().manual_seed(1)) + 0.5
    return LocalErrors(head, SIGMAS, ratio, lowest, 5)


def test_a_head_that_knows_nothing_leaves_the_covariance_as_it_is():
    """That is what a fit starts with."""
    x, v = (RandomStreams(seeds).normal(SHAPE) for seeds in ([1, 2], [3, 4]))
    lowest = 1 / 24
    ratio = torch.ones_like(ratios(torch.ones(1, *SHAPE), lowest)).expand(2, -1, -1)
    plain = LocalErrors(VarianceHead(3), SIGMAS, ratio, lowest, 5)
    found = plain.covariance(falling(), x, 0.5 * x, 0.3)
    torch.testing.assert_close(found.multiply(v), falling().multiply(v), rtol=1e-4, atol=1e-5)


def test_a_sample_and_a_place_depend_on_their_surroundings_alone(head):
    x, sigma = RandomStreams([1, 2]).normal((3, 64, 31)), torch.tensor([0.2, 2.0])
    f = head(x, 0.5 * x, sigma)
    assert f.shape == x.shape
    torch.testing.assert_close(head(x[1:], 0.5 * x[1:], sigma[1:]), f[1:], rtol=1e-4, atol=1e-5)
    moved = x.clone()
    moved[..., 40:, :] = 0
    changed = head(moved, 0.5 * moved, sigma)
    torch.testing.assert_close(changed[..., :24, :], f[..., :24, :])
    assert float((changed - f)[..., 40:, :].abs().max()) > 0.01


def test_the_spectrum_is_read_between_rings_and_levels(local):
    mean = falling()
    at = local.power(mean, 0.1) / mean.power
    torch.testing.assert_close(at[:, 0, 0], local.ratio[0, :, 0])
    torch.testing.assert_close(
        at[:, 0, 1], local.ratio[0, :, 1]
    )  # half a cycle in 12 pixels is the lowest frequency
    torch.testing.assert_close(at[:, 0, 2], local.ratio[0, :, 3])  # an octave above it
    between = local.power(mean, 0.1**0.5) / mean.power
    torch.testing.assert_close(between[:, 0, 0], (local.ratio[0, :, 0] * local.ratio[1, :, 0]).sqrt())
    torch.testing.assert_close(local.power(mean, 50.0), local.power(mean, 1.0))


def test_the_power_of_rings():
    z = cosine_transform(torch.ones(1, *SHAPE))
    found = ratios(z, 1 / 24)
    torch.testing.assert_close(found[:, 0], torch.full((3,), 96.0), rtol=1e-5, atol=0)
    assert float(found[:, 1:].max()) < 1e-6


def test_it_is_kept_in_the_file_of_a_calibration(local, tmp_path):
    table = CalibrationTable(SIGMAS, torch.tensor([0.01, 0.1]), torch.ones(2, 3, 9), torch.eye(3), 4, local)
    path = tmp_path / "head.safetensors"
    write_calibration(path, table)
    read = read_calibration(path)
    x, v = (RandomStreams(seeds).normal(SHAPE) for seeds in ([1, 2], [3, 4]))

    class Halves(Prior):
        shape = SHAPE
        calls = 0

        def denoise(self, x, sigma):
            self.calls += 1
            return 0.5 * x

    prior = Halves()
    prior.calibration = read
    expected = local.covariance(table.covariance(0.3, *SHAPE[1:]), x, 0.5 * x, 0.3).multiply(v)
    torch.testing.assert_close(prior.covariance_around(x, 0.5 * x, 0.3).multiply(v), expected)
    assert prior.calls == 0
    torch.testing.assert_close(prior.conditional_covariance(x, 0.3).multiply(v), expected)
    torch.testing.assert_close(
        prior.mean_covariance(x, 0.3).multiply(v), table.covariance(0.3, 8, 12).multiply(v)
    )
    write_calibration(path, replace(table, local=replace(local, ratio=-local.ratio)))
    with pytest.raises(UserError, match="spectrum of its head must be positive"):
        read_calibration(path)
    write_calibration(path, replace(table, local=None))
    assert read_calibration(path).local is None
