"""Random numbers: one stream a sample, and no global state.

A stream is named by the recipe's seed and by what it is for, such as `(42, "sampler", "astronaut", 3)` for run 3
on the image `astronaut`. So a sample's numbers depend neither on the batch size nor on the other samples of the
batch, and a run that was broken off goes on with exactly the numbers it would have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["RandomStreams", "stream_seed"]


def stream_seed(seed: int, *name: str | int) -> int:
    """Return the 63-bit seed of the stream called `name` under `seed`: equal names give equal seeds, on any machine."""
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in name)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class RandomStreams:
    """A batch of independent random streams, one for each sample.

    Args:
        seeds: one integer for each of the B samples; `stream_seed` makes them.
        device: where the numbers are drawn. Streams of different kinds of device differ.
    """

    def __init__(self, seeds: Iterable[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def of(self, sample: int) -> RandomStreams:
        """Return the stream of one sample, to go on with."""
        own = RandomStreams((), self.device)
        own._generators = [self._generators[sample]]
        return own

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normal numbers, [B, *shape]: sample b's come from stream b alone."""
        out = torch.empty((len(self), *shape), dtype=dtype, device=self.device)
        for row, generator in zip(out, self._generators, strict=True):
            row.normal_(generator=generator)
        return out

    def uniform(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw numbers uniform in [0, 1), [B, *shape]."""
        out = torch.empty((len(self), *shape), dtype=dtype, device=self.device)
        for index, generator in enumerate(self._generators):
            out[index].uniform_(generator=generator)
        return out

    def poisson(self, rate: Tensor) -> Tensor:
        """Draw Poisson counts of the given rates [B, ...]."""
        rows = zip(rate, self._generators, strict=True)
        return torch.stack([torch.poisson(row, generator=generator) for row, generator in rows])
