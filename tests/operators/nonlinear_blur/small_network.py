"""A small shake network, pictures and codes."""

from __future__ import annotations

import numpy as np
import torch

from daps_operators.nonlinear_blur.network import (
    ShakeNetwork,
    ShakeNetworkConfig,
)
from daps_operators.nonlinear_blur.pairs import (
    draw_paths,
    draw_shapes,
)

CPU = torch.device("cpu")


SMALL = ShakeNetworkConfig(kernel_dim=12, modes=5, radius=4, moments=32, width=4, hidden=8)


def small(seed: int = 0, beyond: float = 0.0) -> ShakeNetwork:
    """Return a network at its start, or with light beyond white of random weights."""
    torch.manual_seed(seed)
    network = ShakeNetwork(SMALL)
    rng = np.random.default_rng(seed)
    paths = draw_paths(draw_shapes(64, rng), 256, SMALL.radius, rng)
    network.start(torch.nn.functional.interpolate(paths, SMALL.moments))
    torch.nn.init.normal_(network.beyond_white.conv3.weight, std=beyond)
    return network.requires_grad_(False)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def codes(count: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


def srgb_to_light(u: np.ndarray) -> np.ndarray:
    return np.where(u <= 0.04045, u / 12.92, ((u.clip(0) + 0.055) / 1.055) ** 2.4)
