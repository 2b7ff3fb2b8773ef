"""The examples of a step: clean images, noise levels and noisy images.

Noise levels are mostly log-normal, a share of them uniform in log sigma over the whole range. Every draw comes from a
generator seeded by (seed, purpose, step, worker): a step depends on its number alone, and a training resumed from a
checkpoint goes on exactly as the unbroken one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .augment import Augmentation, augment

_ORDER, _DRAW, _STRATA = 1, 2, 3


@dataclass(frozen=True)
class NoiseLevels:
    """The distribution of sigma.

    Attributes:
        log_mean: mean of log sigma (natural logarithm) of the log-normal part.
        log_std: its standard deviation.
        uniform: share of noise levels drawn uniformly in log sigma.
        minimum: smallest sigma of that share.
        maximum: largest sigma of that share.
    """

    log_mean: float = -0.6
    log_std: float = 1.4
    uniform: float = 0.1
    minimum: float = 0.005
    maximum: float = 100.0

    def sigma(self, uniform: Tensor, mix: Tensor) -> Tensor:
        """Turn uniform draws into noise levels; `mix` chooses between the log-normal and the log-uniform part."""
        normal = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)) * self.log_std + self.log_mean
        low, high = math.log(self.minimum), math.log(self.maximum)
        return torch.where(mix < self.uniform, low + (high - low) * uniform, normal).exp()


@dataclass(frozen=True)
class Batches:
    """The batches of a training on images of one size, dealt out to its workers.

    Attributes:
        images: uint8 [N, H, W, C], frame and margin.
        frame: side of the square that is cut from them.
        changes: that are made to them.
        levels: of noise.
        batch_size: images a step, over all workers; divisible by their number.
        workers: how many share a step.
        seed: of all that is drawn.
    """

    images: Tensor
    frame: int
    changes: Augmentation
    levels: NoiseLevels
    batch_size: int
    workers: int
    seed: int

    def draw(self, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a worker's share of a step: x0 [B, C, H, W], sigma [B] and x0 + sigma n."""
        share = self.batch_size // self.workers
        first = step * self.batch_size + rank * share
        rows = [self._row(index) for index in range(first, first + share)]
        draw = generator(self.seed, _DRAW, step, rank)
        x0 = augment(self.images[rows], self.frame, self.changes, draw)
        # One noise level from each of batch_size equal strata, dealt out to the workers at random: less variance.
        strata = torch.randperm(self.batch_size, generator=generator(self.seed, _STRATA, step))
        strata = strata[rank * share : (rank + 1) * share]
        uniform = (strata + torch.rand(share, generator=draw)) / self.batch_size
        sigma = self.levels.sigma(uniform, torch.rand(share, generator=draw))
        return x0, sigma, x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=draw)

    def _row(self, index: int) -> int:
        """Return the image at place `index` of an endless row of shuffled passes over the set."""
        turn, place = divmod(index, len(self.images))
        return _order(self.seed, len(self.images), turn)[place]


def generator(*key: int) -> torch.Generator:
    """Return a generator that depends on the whole key."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))


@functools.lru_cache(maxsize=2)
def _order(seed: int, count: int, turn: int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator(seed, _ORDER, turn)).tolist()
    return order
