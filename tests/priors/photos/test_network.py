"""The U-Net of photographs sees its receptive field and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from daps_priors.photos.network import Norm, UNet

SHAPES = {"shipped": ((8, 8, 8, 8), (2, 2, 2, 1)), "flat": ((8,), (2,)), "uneven": ((8, 16, 8), (1, 3, 2))}


@pytest.fixture
def network(lively):
    def made(name: str) -> UNet:
        channels, blocks = SHAPES[name]
        torch.manual_seed(1)
        return lively(UNet(2, 1, channels, blocks, embedding=8).double())

    return made


@pytest.mark.parametrize("name", SHAPES)
def test_the_reach_is_that_of_the_derivative(network, name: str) -> None:
    unet = network(name)
    unit, reach = unet.multiple, unet.reach
    place = unit * (-(-reach // unit) + 1)  # the square in the middle
    x = torch.randn(1, 2, 2 * place + unit, 2 * place + unit, dtype=torch.float64, requires_grad=True)
    given = unet(x, torch.zeros(1, dtype=torch.float64))
    inside = given[..., place : place + unit, place : place + unit]
    (gradient,) = torch.autograd.grad(inside, x, torch.randn(inside.shape, dtype=torch.float64))
    for axis in (2, 3):
        seen = gradient.abs().amax((0, 1, 5 - axis)).nonzero()[:, 0]
        before, after = place - int(seen[0]), int(seen[-1]) - (place + unit - 1)
        assert max(before, after) == reach
        assert min(before, after) > reach - 2 * unit


def test_what_lies_beyond_the_reach_changes_nothing(network) -> None:
    unet = network("uneven")
    unit = unet.multiple
    halo = -(-unet.reach // unit) * unit
    x = torch.randn(1, 2, 2 * halo + 3 * unit, unit * 4, dtype=torch.float64)
    other = x.clone()
    other[..., halo + 3 * unit :, :] = torch.randn_like(other[..., halo + 3 * unit :, :])
    level = torch.tensor([-1.0], dtype=torch.float64)
    first, second = unet(x, level), unet(other, level)
    assert torch.equal(first[..., : 3 * unit, :], second[..., : 3 * unit, :])
    assert not torch.equal(first, second)


def test_shifting_by_what_it_divides_by_shifts_the_result(network) -> None:
    unet = network("flat")
    unit, reach = unet.multiple, -(-unet.reach // unet.multiple) * unet.multiple
    x = torch.randn(1, 2, 12 + 4 * reach, 8, dtype=torch.float64)
    level = torch.tensor([0.5], dtype=torch.float64)
    moved = unet(x.roll(unit, 2), level).roll(-unit, 2)
    inside = slice(reach, -reach - unit)
    torch.testing.assert_close(moved[:, :, inside], unet(x, level)[:, :, inside], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("cells", [1, 150, 700])
def test_tiles_of_each_resolution_are_the_whole(network, name: str, cells: int) -> None:
    unet = network(name)
    x = torch.randn(2, 2, 6 * unet.multiple, 4 * unet.multiple, dtype=torch.float64)
    level = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(unet(x, level, cells=cells), unet(x, level), rtol=1e-12, atol=1e-12)


def test_the_norm_divides_a_pixel_by_its_own_size() -> None:
    norm, h = Norm(6), torch.randn(2, 6, 3, 5)
    expected = h / (h.square().mean(1, keepdim=True) + 1e-4).sqrt()
    torch.testing.assert_close(norm(h), expected, rtol=1e-5, atol=1e-6)
    one = norm(functional.pad(h, (0, 4)))[..., :5]  # what else is in the picture does not count
    assert torch.equal(one, norm(h))


def test_it_starts_from_nothing_and_asks_for_as_many_blocks_as_resolutions() -> None:
    started = UNet(2, 1, (8, 8), (1, 1), 8)(torch.randn(1, 2, 8, 8), torch.zeros(1))
    assert float(started.detach().abs().max()) == 0
    with pytest.raises(ValueError, match="for each of 2 resolutions, not 1"):
        UNet(2, 1, (8, 8), (1,))
