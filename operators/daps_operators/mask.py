"""Operators that keep entries of the image as they are: y = m x with m 0 or 1 (inpainting) or 1 (denoising).

A is diagonal, so A^T = A and (A^T A + w I)^{-1} b = b / (m + w).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daps_kit.arrays import read_map
from daps_kit.contracts import Covariance, LinearOperator, Noise, Operator, Shape
from daps_kit.covariance import CosineCovariance
from daps_kit.errors import UserError
from daps_kit.linalg import Constant, per_sample

__all__ = ["Identity", "Inpainting", "box_mask", "build_inpainting", "random_mask", "read_mask"]

Random = np.random.Generator | np.random.RandomState
Mask = NDArray[np.bool_]
"""True where a pixel is kept."""


class Identity(LinearOperator):
    """The image itself is measured."""

    elementwise = True

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return b / (1 + weight)."""
        return b / (1 + per_sample(weight, b))

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return the variances of a C that is diagonal in frequency."""
        return covariance.power if isinstance(covariance, CosineCovariance) else None


class Inpainting(LinearOperator):
    """Pixels where the mask is 0 are hidden; they are zero in the measurement and not `observed`.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        mask: 0 and 1, [1 or B, 1 or C, H, W].
    """

    elementwise = True

    def __init__(self, shape: Shape, noise: Noise, mask: Tensor) -> None:
        super().__init__(shape, noise)
        self.observed: Tensor = mask.to(torch.float32)
        self._mask = Constant(mask)

    def forward(self, x: Tensor) -> Tensor:
        """Return m x."""
        return x * self._mask.like(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return m y."""
        return self.forward(y)

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return b / (m + weight)."""
        return b / (self._mask.like(b) + per_sample(weight, b))

    def contradiction(self, y: Tensor) -> str:
        """Tell a mask the wrong way round: what it keeps has a single value, or none, and what it hides has many."""
        kept = self._mask.like(y).expand(y.shape) > 0
        shown, hidden = (part[torch.isfinite(part)] for part in (y[kept], y[~kept]))
        if (
            len(hidden) < 2
            or not float(hidden.std()) > 0
            or (len(shown) and float(shown.max() - shown.min()) > 0)
        ):
            return ""
        return (
            "the mask keeps what is empty in the measurement and hides what was measured; if 1 (white) is what is "
            "hidden, say operator.mask_is: hidden"
        )

    def state(self) -> dict[str, Tensor]:
        """Return the mask, 1 where a pixel is kept."""
        return {"mask": self.observed}

    @classmethod
    def stack(cls, operators: Sequence[Operator]) -> Operator:
        """Join operators into one whose sample b has the mask of `operators[b]`."""
        masks = [operator.observed for operator in operators if isinstance(operator, Inpainting)]
        first = operators[0]
        if all(operator is first for operator in operators) or len(masks) < len(operators):
            return super().stack(operators)
        return cls(first.shape, first.noise, torch.cat(masks))


def box_mask(
    rng: Random, size: tuple[int, int], sides: Sequence[tuple[int, int]], margins: Sequence[int]
) -> Mask:
    """Draw a mask [H, W] that hides one box.

    Args:
        rng: the source of randomness: height, width, top and left are drawn in this order.
        size: (H, W).
        sides: for the height and the width of the box, from low to below high.
        margins: the least distances from the top or bottom and from the left or right border.

    Raises:
        UserError: the box does not fit.
    """
    integers = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    for n, (low, high), margin in zip(size, sides, margins, strict=True):
        if not (0 < low < high and high - 1 + 2 * margin <= n):
            raise UserError(
                f"inpainting: a box of {low} to {high - 1} pixels with a margin of {margin} does not fit into an "
                f"image of {size[0]} x {size[1]}; allowed: the largest box and two margins within {n} pixels"
            )
    box = [int(integers(low, high)) for low, high in sides]
    corner = [
        int(integers(margin, max(n - margin - side, margin + 1)))
        for n, side, margin in zip(size, box, margins, strict=True)
    ]
    mask = np.ones(size, dtype=bool)
    mask[corner[0] : corner[0] + box[0], corner[1] : corner[1] + box[1]] = False
    return mask


def random_mask(rng: Random, size: tuple[int, int], share: tuple[float, float]) -> Mask:
    """Draw a mask [H, W] that hides pixels at random; the hidden share is uniform in `share`, low to high."""
    mask = np.ones(size[0] * size[1], dtype=bool)
    hidden = int(mask.size * rng.uniform(*share))
    mask[rng.choice(mask.size, hidden, replace=False)] = False
    return mask.reshape(size)


def read_mask(path: Path, shape: Shape) -> Mask:
    """Read a mask, [H, W] or (arrays only) one for each channel: 0, black or transparent hides a pixel.

    Arrays may have their channels first or last.

    Raises:
        UserError: the file cannot be read, has another size, or holds anything but 0 and one other value.
    """
    values = read_map(path, "mask")
    while values.ndim > 3 and len(values) == 1:
        values = values[0]
    if values.shape != shape and values.shape in ((*shape[1:], shape[0]), (*shape[1:], 1)):
        values = np.moveaxis(values, -1, 0)
    if values.ndim > 2 and len(values) == 1:
        values = values[0]
    if values.shape not in (shape[1:], shape):
        given, wanted = (" x ".join(map(str, s)) for s in (values.shape, shape[1:]))
        raise UserError(f"mask {path} has {given} values; the images have {wanted} pixels (height x width)")
    kept: Mask = values != 0
    levels = np.unique(values[kept])
    if len(levels) > 1 or (levels < 0).any():
        raise UserError(
            f"mask {path} has values from {values.min():g} to {values.max():g}; allowed: 0 (hidden) and 1 "
            "(pictures: black and white)"
        )
    return kept


def build_inpainting(
    shape: Shape,
    noise: Noise,
    mask: Literal["box", "random"] | Path,
    *,
    side: tuple[int, int] | None,
    margin: int | None,
    share: tuple[float, float],
    mask_is: Literal["kept", "hidden"],
    seed: int,
    device: torch.device,
) -> Inpainting:
    """Return the operator with its mask, drawn from the seed or read from a file.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        mask: "box", "random", or a file.
        side: of the box in pixels, from low to below high; half of the image where None.
        margin: least distance of the box from the border; an eighth of the image where None.
        share: of pixels hidden at random, from low to high.
        mask_is: what is not 0 in a mask from a file.
        seed: of the draw.
        device: where the mask is.

    Raises:
        UserError: the mask does not fit the images, or hides all of them.
    """
    size = shape[1:]
    rng = np.random.default_rng(seed)
    if mask == "box":
        halves = [(max(n // 2, 1), max(n // 2, 1) + 1) for n in size]
        margins = [n // 8 if margin is None else margin for n in size]
        kept = box_mask(rng, size, halves if side is None else [side] * 2, margins)
    elif mask == "random":
        kept = random_mask(rng, size, share)
    else:
        kept = read_mask(Path(mask), shape) ^ (mask_is == "hidden")
    if not kept.any():
        raise UserError("inpainting: the mask hides every pixel; at least one must be kept")
    tensor = torch.from_numpy(kept.astype(np.float32)).to(device)
    return Inpainting(shape, noise, tensor.reshape(1, -1, *size))
