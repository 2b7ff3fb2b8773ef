"""What the tests of published networks share: a small architecture, noise, and how far numbers are apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from daps_priors.published.adm import Architecture

TINY = Architecture(
    image_size=16,
    num_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_head_channels=16,
    resblock_updown=True,
    learn_sigma=True,
)


def error(found: Tensor, expected: Any) -> float:
    """Largest difference over the largest value."""
    found, expected = found.detach(), torch.as_tensor(expected).detach()
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def counting_compile(graphs: list[Any]) -> Any:
    """Return a torch.compile that keeps the graphs it finds and runs them as they are."""
    compile_with = torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return lambda network: compile_with(network, backend=backend)
