r"""What a JPEG file keeps of a noisy picture.

A file keeps coefficients c = A x of red, green and blue, each in steps q (`daps_kit.jpeg`). Rounding to a step is like
noise of variance q^2 / 12, or less for those that are mostly 0: q^2 / 16 here, by which photographs come out better.
With R = diag(q^2) / 16 and the singular values of R^{-1/2} A = V D U, the numbers

    y = D^{-1} V^T R^{-1/2} c = U x + n,    n_i ~ N(0, sigma^2 + 1 / D_i^2),

have independent noise whatever sigma is, as U is orthonormal: the picture's own noise stays white. What is coded
together, a square of 8 x 8 or up to 16 x 16 pixels, has the same U everywhere. Details of colours that are finer than
the file has them are not observed.

Of a square that the picture does not fill, at the right and the lower border, the U are the eigenvectors of what is
there of the covariance of n.

Source: Widrow, Kollar and Liu, "Statistical theory of quantization", IEEE Trans. Instrum. Meas. 45 (1996), for rounding
as noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from daps_kit.contracts import LinearOperator, Shape
from daps_kit.errors import UserError
from daps_kit.jpeg import BLOCK, LEVELS, TRANSFORM, Coding, read_planes
from daps_kit.linalg import Constant, per_sample
from daps_kit.noise import GaussianNoise

__all__ = ["Jpeg"]

UNKNOWN = 1000.0
"""Standard deviation that stands for what is not observed, of images in [-1, 1]."""

ROUNDED = 1 / 16
"""Variance of rounding to a step of 1."""

WHOLE = 1 / 6
"""Variance, in levels, of rounding pixels to whole levels before and after."""

TELLING = 0.2
"""Variance of rounding, in units of that of the noise, up to which a number tells how strong the noise is."""

Matrix = NDArray[np.float64]


class _Rounding(NamedTuple):
    """Eigenvalues [n], rising, and eigenvectors [n, n] of the covariance of what rounding does to pixels."""

    variances: Matrix
    vectors: Matrix


@dataclass(frozen=True)
class _Part:
    """Squares of one size, side by side.

    Attributes:
        rows, columns: where they are in the stored picture.
        size: height and width of each.
        basis: U, [n, n].
        rounding: the variance of n without sigma^2, [n].
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    basis: Constant
    rounding: Tensor


class Jpeg(LinearOperator):
    """The numbers y of a picture, [B, C, H, W]: those of each square in its place, the surest first.

    Args:
        shape: (C, H, W) of the images.
        sigma: standard deviation of the noise of the picture, before it was saved.
        coding: how it was saved.
        device: where the numbers are.

    Raises:
        UserError: the file has another number of channels.
    """

    orthonormal = True

    def __init__(self, shape: Shape, sigma: float, coding: Coding, device: torch.device) -> None:
        channels, height, width = shape
        if channels != len(coding.steps):
            raise UserError(
                f"jpeg: the file has {len(coding.steps)} channel(s), and the images have {channels}"
            )
        self._coding, self._turn = coding, coding.turn
        if self._turn[2]:
            height, width = width, height
        whole = _rounding(coding)
        self._parts = [
            [_part(whole, coding, rows, columns) for columns in _cut(width, coding.unit[1])]
            for rows in _cut(height, coding.unit[0])
        ]
        zero = torch.zeros(1, *shape, dtype=torch.float64)
        rounding = self._each(zero, lambda tiles, part: part.rounding.expand_as(tiles))
        super().__init__(shape, GaussianNoise((sigma**2 + rounding[0]).sqrt().float().to(device)))
        known = rounding < UNKNOWN
        if not bool(known.all()):
            self.observed: Tensor | None = known.float().to(device)
        filled = self._each(zero, lambda tiles, part: torch.full_like(tiles, part.size == coding.unit))
        self._telling = ((rounding <= TELLING * sigma**2) & (filled > 0)).to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Return U x, also of what is not observed."""
        return self._each(x, lambda tiles, part: tiles @ part.basis.like(x).T)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return U^T y."""
        return self._each(y, lambda tiles, part: tiles @ part.basis.like(y))

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return b / (1 + weight)."""
        return b / (1 + per_sample(weight, b))

    def telling(self, y: Tensor) -> Tensor:
        """Return where rounding is small beside the noise, in squares that are filled: of others less is known."""
        return self._telling.expand_as(y)

    def read(self, path: Path) -> Tensor | None:
        """Return what a JPEG file keeps, [1, C, H, W]; None where it is no such file.

        Raises:
            UserError: the file has another coding or size.
        """
        planes = read_planes(path)
        if planes is None:
            return None
        image = torch.from_numpy(planes.upright())[None]
        if tuple(image.shape[1:]) != self.shape or not planes.coding.same(self._coding):
            raise UserError(
                f"{path}: it is saved with other steps, sampling, orientation or size than operator jpeg has"
            )
        return self.project(self.forward(image)).float()

    def to_image(self, y: Tensor) -> Tensor:
        """Return the picture in the file."""
        return self.adjoint(self.project(y)).clamp(-1, 1)

    def _each(self, x: Tensor, function: Callable[[Tensor, _Part], Tensor]) -> Tensor:
        """Return a picture made of what a function gives of the squares of a picture, [B, rows, columns, n]."""
        upside, mirrored, swapped = self._turn
        turned = [axis for axis, flip in ((-2, upside), (-1, mirrored)) if flip]
        x = (x.transpose(-1, -2) if swapped else x).flip(turned)
        lines = []
        for line in self._parts:
            found = [
                _joined(function(_tiles(x[..., part.rows, part.columns], part.size), part), part.size)
                for part in line
            ]
            lines.append(torch.cat(found, -1))
        x = torch.cat(lines, -2).flip(turned)
        return x.transpose(-1, -2) if swapped else x


def _cut(side: int, unit: int) -> list[slice]:
    """Return the part of a side that whole units fill, and what is left, where there is any."""
    whole = side // unit * unit
    # The step says how long a square is.
    cuts = [slice(0, whole, unit), slice(whole, side, side - whole)]
    return [cut for cut in cuts if cut.start < cut.stop]


def _part(whole: _Rounding, coding: Coding, rows: slice, columns: slice) -> _Part:
    """Return squares of the size that slices have as their steps, from what those that are filled have."""
    size = (rows.step, columns.step)
    if size != coding.unit:
        form = (len(coding.colours), *coding.unit)
        there = np.zeros(form, dtype=np.bool_)
        there[:, : size[0], : size[1]] = True
        inside = whole.vectors[there.ravel()]
        whole = _eigen((inside * whole.variances) @ inside.T)
    return _Part(
        slice(rows.start, rows.stop),
        slice(columns.start, columns.stop),
        size,
        Constant(torch.from_numpy(whole.vectors.T.copy())),
        torch.from_numpy(whole.variances.clip(0)),
    )


def _eigen(matrix: Matrix) -> _Rounding:
    # Of many equal eigenvalues LAPACK's other ways give vectors that are orthonormal to 1e-8 alone.
    values, vectors = scipy.linalg.eigh(matrix, driver="evr")
    return _Rounding(values, vectors)


def _rounding(coding: Coding) -> _Rounding:
    """Return what rounding does to the pixels of a square that is filled, [C, h, w]."""
    rows, steps = [], []
    for plane, step in enumerate(coding.steps):
        shared = coding.shared(plane)
        axes = [_blocks(unit, each) for unit, each in zip(coding.unit, shared, strict=True)]
        rows.append(LEVELS * np.kron(coding.colours[plane][None], np.kron(*axes)))
        count = [len(axis) // BLOCK for axis in axes]
        steps.append(np.tile(step, count).ravel())
    weight = 1 / (np.concatenate(steps) ** 2 * ROUNDED + WHOLE)
    matrix = np.concatenate(rows)
    precision, vectors = _eigen(matrix.T @ (weight[:, None] * matrix))
    return _Rounding(1 / (precision[::-1].clip(0) + UNKNOWN**-2), vectors[:, ::-1])


def _blocks(unit: int, shared: int) -> Matrix:
    """Return the transform of the blocks along a side of a square, whose numbers are means of some pixels."""
    count = unit // shared
    means = np.kron(np.eye(count), np.full((1, shared), 1 / shared))
    blocks: Matrix = np.asarray(np.kron(np.eye(count // BLOCK), TRANSFORM) @ means, dtype=np.float64)
    return blocks


def _tiles(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the squares of a picture, [B, rows, columns, C h w]."""
    h, w = size
    batch, channels, height, width = x.shape
    cut = x.reshape(batch, channels, height // h, h, width // w, w)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _joined(tiles: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the picture, [B, C, H, W], of its squares."""
    batch, rows, columns, _ = tiles.shape
    cut = tiles.reshape(batch, rows, columns, -1, *size)
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
