"""A function of maps in tiles is the function, of tiles no larger than asked for and with the least work."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import conv2d

from daps_priors.photos.tiles import tiled, tiling

KERNEL = torch.rand(3, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def blurred(*maps: torch.Tensor) -> torch.Tensor:
    """[B, 1, H, W] twice -> [B, 3, H, W], of a reach of 2."""
    return conv2d(torch.cat(maps, 1), KERNEL, padding=2)


@pytest.mark.parametrize("size", [(3, 3), (1, 40), (17, 30), (64, 5)])
@pytest.mark.parametrize("cells", [1, 25, 70, 200])
def test_tiles_are_the_whole_and_no_larger_than_asked_for(size, cells):
    maps = torch.rand(2, 2, 1, *size, dtype=torch.float64)
    seen = []

    def apply(*parts: torch.Tensor) -> torch.Tensor:
        seen.append(parts[0].numel())
        return blurred(*parts)

    torch.testing.assert_close(tiled(apply, maps, 2, 2 * cells), blurred(*maps))
    assert max(seen) <= 2 * max(cells, 25)
    if size[0] * size[1] <= cells:
        assert len(seen) == 1


def test_a_reach_that_is_too_small_shows():
    """Were the reach smaller than that of the function, tiles would differ from the whole: the test above can fail."""
    maps = torch.rand(2, 1, 1, 17, 30, dtype=torch.float64)
    assert float((tiled(blurred, maps, 1, 100) - blurred(*maps)).abs().max()) > 0.01


@pytest.mark.parametrize(("height", "width"), [(750, 1000), (188, 250), (20, 3000), (1000, 16)])
def test_no_other_tiles_that_fit_have_less_work(height, width):
    reach, cells = 4, 1 << 15

    def read(length, parts):
        ends = [length * part // parts for part in range(parts + 1)]
        return [min(length, b + reach) - max(0, a - reach) for a, b in itertools.pairwise(ends)]

    def work(parts):
        return sum(read(height, parts[0])) * sum(read(width, parts[1]))

    chosen = tiling(height, width, reach, cells)
    assert 1.0 <= work(chosen) / (height * width) < 1.15
    for parts in itertools.product(range(1, 60), repeat=2):
        down, across = read(height, parts[0]), read(width, parts[1])
        if max(down) * max(across) <= cells:
            # A tile at a border has its reach on one side only, which the choice does not count on.
            assert work(chosen) <= 1.02 * work(parts)


def test_with_a_reach_of_nothing_there_is_no_work_in_vain():
    assert tiling(100, 100, 0, 10_000) == (1, 1)
    down, across = tiling(100, 100, 0, 2_500)
    assert down * across == 4
