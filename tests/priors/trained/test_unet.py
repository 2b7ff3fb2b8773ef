"""The U-Net: what it is told, and what it cannot be."""

from __future__ import annotations

import pytest
import torch

from daps_priors.trained.network import Denoiser
from daps_priors.trained.unet import UNet
from tests.priors.trained.small import SHAPE


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
