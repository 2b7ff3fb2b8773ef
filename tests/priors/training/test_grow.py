"""A network grown from a smaller one computes what that one did, and can learn more."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from daps_priors.trained.network import Denoiser
from daps_priors.trained.wiener import GaussianDenoiser
from daps_priors.training.grow import grow

SMALL: dict[str, Any] = {
    "components": 8, "channels": (8, 16), "blocks": (2, 1), "embedding": 16, "attention": 1,
}  # fmt: skip


def network(seed: int, **changes: Any) -> Denoiser:
    """A network none of whose weights is zero."""
    model = Denoiser((3, 16, 16), **SMALL | changes)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=draw))
    images = torch.randn((40, 3, 16, 16), generator=draw)
    model.gauss = GaussianDenoiser.fit(images, 8)
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": (16, 16)},
        {"blocks": (3, 2)},
        {"attention": 2},
        {"channels": (24, 16), "blocks": (3, 3), "attention": 3},
    ],
)
def test_it_computes_the_same(changes: dict[str, Any]) -> None:
    small, large = network(0), Denoiser((3, 16, 16), **SMALL | changes)
    grow(small, large)
    x = torch.randn((3, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([0.1, 1.0, 20.0])
    torch.testing.assert_close(large(x, sigma), small(x, sigma), rtol=1e-4, atol=1e-5)


def test_attention_gets_more_heads() -> None:
    small, large = network(0, channels=(8, 32)), Denoiser((3, 16, 16), **SMALL | {"channels": (8, 64)})
    grow(small, large)
    x = torch.randn((3, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(large(x, torch.tensor(1.0)), small(x, torch.tensor(1.0)), rtol=1e-4, atol=1e-5)


def test_what_was_added_learns() -> None:
    small, large = network(0), Denoiser((3, 16, 16), **SMALL | {"channels": (16, 16)})
    grow(small, large)
    x = torch.randn((3, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    large(x, torch.tensor(1.0)).square().mean().backward()
    weight = large.unet.down[0][0].conv1.weight
    assert weight.grad is not None
    assert float(weight.grad[:8, 8:].abs().max()) > 0


@pytest.mark.parametrize(
    "changes", [{"channels": (16, 8)}, {"channels": (8, 24)}, {"blocks": (1, 1)}, {"embedding": 8}]
)
def test_a_smaller_network_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the weights to start from are"):
        grow(network(0), Denoiser((3, 16, 16), **SMALL | changes))


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="images of another shape"):
        grow(network(0), Denoiser((3, 16, 24), **SMALL))
