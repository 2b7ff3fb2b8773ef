"""A small network of the published kind, and weights drawn by the rules of the recorded numbers."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from daps_operators.nonlinear_blur.bkse import BlurNetwork, BlurNetworkConfig
from daps_operators.nonlinear_blur.operator import code_size

GOLDEN = Path(__file__).parents[2] / "golden"


CPU = torch.device("cpu")


TINY = BlurNetworkConfig(3, 4, 1, 2, (4, 8), 6, 5)  # stride 16


Shapes = list[tuple[str, tuple[int, ...]]]


def published_shapes() -> Shapes:
    """Return names and shapes of the published weights, in order."""
    lines = (GOLDEN / "bkse_state_dict.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    return [(name, tuple(map(int, re.findall(r"\d+", shape)))) for name, shape, *_ in rows]


def encoder_shapes(config: BlurNetworkConfig) -> Shapes:
    """Return the parameters of the encoder, which stand before the adapter's in published weights."""
    names = [name for name, _ in published_shapes() if name.startswith("kernel_extractor")]
    width, out = config.width, 2 * config.kernel_dim
    channels = [width, *(min(width * 2**level, out) for level in range(1, 6))]
    downs = [(after, before, 3, 3) for before, after in pairwise(channels)]
    return list(zip(names, [(width, 2 * width, 7, 7), *downs, *[(out, out, 3, 3)] * 8], strict=True))


def own_shapes(config: BlurNetworkConfig) -> Shapes:
    with torch.device("meta"):
        return [(name, tuple(t.shape)) for name, t in BlurNetwork(config).state_dict().items()]


def drawn_weights(config: BlurNetworkConfig, rule: str = "B") -> dict[str, torch.Tensor]:
    """Return weights drawn by the rules of the recorded numbers, the encoder's among them."""
    own = own_shapes(config)
    adapter = [name for name, _ in own].index("adapter.model.down.0.weight")
    weights = {}
    for k, (name, shape) in enumerate([*own[:adapter], *encoder_shapes(config), *own[adapter:]]):
        r = torch.randn(shape, generator=torch.Generator().manual_seed(k))
        if rule == "A":
            weights[name] = 0.02 * r
        else:
            weights[name] = r / np.sqrt(r[0].numel()) if r.ndim > 1 else 0.1 * r
    return weights


def images(batch: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed)) - 1


def code_of(network: BlurNetwork, *shape: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    size = (batch, network.config.kernel_dim, *code_size(network, shape))
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def error(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest number."""
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())
