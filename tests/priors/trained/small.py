"""A small denoiser of smooth images."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPE = (3, 16, 16)


NETWORK = {"components": 8, "channels": (8, 16), "blocks": (1, 1), "embedding": 16, "attention": 1}


CPU = torch.device("cpu")


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear", align_corners=False)
