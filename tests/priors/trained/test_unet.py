"""The U-Net: what it is told, and what it cannot be."""

from __future__ import annotations

import pytest
import torch

from daps_priors.trained.network import Denoiser, blank
from daps_priors.trained.unet import UNet
from daps_priors.trained.wiener import GaussianDenoiser
from tests.priors.trained.small import NETWORK, SHAPE, images


@pytest.fixture(scope="module")
def model() -> Denoiser:
    """A denoiser with a fitted Gaussian and a U-Net of random weights, none of them zero."""
    made = blank(SHAPE, **NETWORK)
    made.gauss = GaussianDenoiser.fit(images(100, 0), 8)
    generator = torch.Generator().manual_seed(1)
    for p in made.parameters():
        p.data.add_(0.05 * torch.randn(p.shape, generator=generator))
    return made.eval().requires_grad_(False)


def test_the_position_maps_and_the_noise_level_matter(model: Denoiser) -> None:
    x = torch.zeros(1, 6, *SHAPE[1:])
    low, high = (model.unet(x, torch.tensor([s])) for s in (-2.0, 2.0))
    assert (low - high).abs().max() > 1e-3
    assert low.flatten(2).std(2).min() > 1e-3


@pytest.mark.parametrize(
    ("channels", "blocks", "size", "message"),
    [((8, 16), (1,), (16, 16), "one number of blocks"), ((8, 16, 16), (1, 1, 1), (16, 12), "divisible by 8")],
)
def test_an_impossible_network_is_refused(
    channels: tuple[int, ...], blocks: tuple[int, ...], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(3, 3, size, channels=channels, blocks=blocks)
