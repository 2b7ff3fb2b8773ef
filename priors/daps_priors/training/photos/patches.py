"""The examples of a step: patches of one size, noise levels and noisy patches.

A picture at one scale is drawn in proportion to its weight and to min(pixels, cap)^power, then a place in it. Patches
are mirrored and turned; a share of them have their colours exchanged, another share

    x <- a t (grey + b (x - grey)) + c,     log a ~ N(0, 0.2^2), log b ~ N(0, 0.4^2), c ~ N(0, 0.15^2),

with the tint log t ~ N(0, 0.1^2) by colour, cut off at -1 and 1. Every draw comes from generators seeded by (seed,
step): a step depends on its number alone, and a training that was resumed goes on as the unbroken one would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..batches import NoiseLevels, generator
from .pictures import Picture

_DRAW = 4


@dataclass(frozen=True)
class Patches:
    """How patches are drawn.

    Attributes:
        sizes: their sides, pixels; a step has one.
        pixels: of all patches of a step.
        cap, power, permute, colour: see above.
        levels: of noise; none lies beyond its minimum and maximum.
        seed: of all that is drawn.
    """

    sizes: tuple[int, ...]
    pixels: int
    cap: int
    power: float
    permute: float
    colour: float
    levels: NoiseLevels
    seed: int


class PatchExamples:
    """Examples for `DenoisingError` and its like.

    Args:
        pictures: to draw from.
        patches: how.
    """

    def __init__(self, pictures: Sequence[Picture], patches: Patches) -> None:
        self.pictures, self.patches = pictures, patches
        share = np.array(
            [min(p.pixels[0].numel(), patches.cap) ** patches.power * p.weight for p in pictures]
        )
        sides = np.array([min(p.pixels.shape[1:]) for p in pictures])
        self._share: dict[int, NDArray[np.float64]] = {}
        for size in set(patches.sizes):
            fitting = share * (sides >= size)
            if fitting.sum() > 0:
                self._share[size] = fitting / fitting.sum()

    def draw(self, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return x0 [B, C, H, W], sigma [B] and x0 + sigma n of a step; sizes without pictures give way to smaller."""
        settings = self.patches
        rng = np.random.default_rng((settings.seed, _DRAW, step, rank))
        noise = generator(settings.seed, _DRAW, step, rank)
        size = int(rng.choice([s for s in settings.sizes if s in self._share]))
        count = settings.pixels // size**2
        places = rng.choice(len(self.pictures), count, p=self._share[size])
        x0 = torch.stack([self._patch(self.pictures[i].pixels, size, rng) for i in places])
        # One noise level from each of the batch's equal strata: less variance.
        strata = torch.from_numpy(rng.permutation(count))
        uniform = (strata + torch.rand(count, generator=noise)) / count
        sigma = settings.levels.sigma(uniform, torch.rand(count, generator=noise))
        sigma = sigma.clamp(settings.levels.minimum, settings.levels.maximum)
        return x0, sigma, x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=noise)

    def crops(self, count: int, size: int) -> list[Tensor]:
        """Return patches of this side, or of the largest that there is, to fit a linear denoiser."""
        size = max(s for s in self._share if s <= size)
        rng = np.random.default_rng((self.patches.seed, _DRAW))
        places = rng.choice(len(self.pictures), count, p=self._share[size])
        return [self._patch(self.pictures[i].pixels, size, rng) for i in places]

    def _patch(self, picture: Tensor, size: int, rng: np.random.Generator) -> Tensor:
        top, left = (int(rng.integers(n - size + 1)) for n in picture.shape[1:])
        x = picture[:, top : top + size, left : left + size].float().div(127.5).sub(1)
        for axis in (1, 2):
            if rng.random() < 0.5:
                x = x.flip(axis)
        if rng.random() < 0.5:
            x = x.transpose(1, 2)
        if rng.random() < self.patches.permute:
            x = x[torch.from_numpy(rng.permutation(len(x)))]
        if rng.random() < self.patches.colour:
            contrast, saturation = (
                math.exp(0.2 * rng.standard_normal()),
                math.exp(0.4 * rng.standard_normal()),
            )
            tint = torch.from_numpy(np.exp(0.1 * rng.standard_normal((len(x), 1, 1)))).float()
            grey = x.mean(0, keepdim=True)
            x = (grey + saturation * (x - grey)) * contrast * tint + 0.15 * rng.standard_normal()
            x = x.clamp(-1, 1)
        return x.contiguous()
