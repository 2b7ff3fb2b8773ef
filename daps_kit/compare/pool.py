"""Samples that are drawn once, together, and of which each call takes some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Pool"]


class Pool(ABC):
    """A pool of samples."""

    @cached_property
    def pool(self) -> Tensor:
        """The samples, [P, d], drawn when they are first asked for."""
        return self.draw()

    @abstractmethod
    def draw(self) -> Tensor:
        """Return the samples, [P, d]."""

    def __call__(self, count: int, seed: int) -> Tensor:
        """Return samples of the pool, [N, d], without repetition while it lasts."""
        order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(seed))
        return self.pool[order[torch.arange(count) % len(order)]]
