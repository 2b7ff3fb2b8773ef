"""A function of maps that sees no further than its reach, computed tile by tile.

A tile is a rectangle of the maps with its reach around it, cut off where the maps end: so what comes out for the
rectangle is, to rounding, what the whole maps give. What is computed on the way is as large as a tile and stays in the
processor's cache, where that of whole maps would be fetched from memory, and asked of the system, again and again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["tiled", "tiling"]


def tiling(height: int, width: int, reach: int, cells: int) -> tuple[int, int]:
    """Return into how many tiles to cut the height and the width, for the least work.

    Args:
        height, width: of the maps.
        reach: around each tile.
        cells: that a tile may have with what is around it, at least (2 reach + 1)^2 of them.
    """
    found: list[tuple[int, int, int]] = []
    for down in range(1, height + 1):
        tall = min(height, -(-height // down) + 2 * reach)
        broad = cells // tall - 2 * reach
        if broad > 0 or cells // tall >= width:
            across = 1 if cells // tall >= width else -(-width // broad)
            work = (height + 2 * reach * (down - 1)) * (width + 2 * reach * (across - 1))
            found.append((work, down, across))
    return min(found)[1:]


def tiled(
    apply: Callable[..., Tensor], maps: Sequence[Tensor], reach: int, cells: int | None = None
) -> Tensor:
    """Return what a function makes of maps [B, any, H, W], which has their height and width.

    Args:
        apply: the function; the places that its result depends on are at most `reach` away, in either direction.
        maps: its arguments.
        reach: see above.
        cells: of a tile, in all B together; None where nothing is to be cut. Without gradients.
    """
    batch, _, height, width = maps[0].shape
    if cells is None or batch * height * width <= cells:
        return apply(*maps)
    parts = tiling(height, width, reach, max(cells // batch, (2 * reach + 1) ** 2))
    whole: Tensor | None = None
    for (top, bottom), (left, right) in itertools.product(*map(_cut, (height, width), parts)):
        above, before = min(top, reach), min(left, reach)
        given = apply(*(h[..., top - above : bottom + reach, left - before : right + reach] for h in maps))
        if whole is None:
            shape = (batch, given.shape[1], height, width)
            whole = torch.empty(
                shape, dtype=given.dtype, device=given.device, memory_format=torch.channels_last
            )
        whole[..., top:bottom, left:right] = given[
            ..., above : above + bottom - top, before : before + right - left
        ]
    assert whole is not None
    return whole


def _cut(length: int, parts: int) -> list[tuple[int, int]]:
    """Return the ends of parts of about the same length."""
    return list(itertools.pairwise(length * part // parts for part in range(parts + 1)))
