"""Images whose denoising tells something: a prior's own draws, the images of a recipe, or built-in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from daps_kit.contracts import Prior, RandomStreams
from daps_kit.images import fit, load_image

__all__ = ["draws_exactly", "known_images", "load_for"]


def draws_exactly(prior: Prior) -> bool:
    """Return whether a prior draws from itself by its own closed form, and so has no weights."""
    return type(prior).sample is not Prior.sample


def load_for(prior: Prior, files: Sequence[Path]) -> Tensor:
    """Return image files as a prior takes them, [N, C, H, W]: its size, or that of the first where any will do.

    Raises:
        UserError: a file cannot be used.
    """
    images = [load_image(file, prior.shape[0] if prior.shape else prior.channels) for file in files]
    size = prior.shape[1:] if prior.shape else (images[0].shape[1], images[0].shape[2])
    return torch.stack([fit(image, size) for image in images])


@torch.no_grad()
def known_images(
    prior: Prior, files: Sequence[Path], device: torch.device, *, count: int = 8
) -> tuple[Tensor, str]:
    """Return what a prior is checked on, in its own (latent) space on the device, and what that is in words.

    Its own draws, if it draws exactly; else images from `files`, as many as `count`; else built-in pictures.

    Raises:
        UserError: a file cannot be used.
    """
    if draws_exactly(prior):
        shape = prior.shape or (prior.channels or 3, 64, 64)
        streams = RandomStreams(range(count), device)
        return prior.sample(prior.state_shape(shape), streams), "its own draws"
    if files:
        chosen = list(files)[:count]
        x0 = load_for(prior, chosen)
        label = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} images of the recipe"
    else:
        x0, label = _pictures(*(prior.shape or (prior.channels or 3, 64, 64)), count)
    return prior.encode(x0.to(device)), label


def _pictures(channels: int, height: int, width: int, count: int) -> tuple[Tensor, str]:
    """Return pictures for colour and grey priors: the photograph among the recipes; smooth random ones for others."""
    spec = find_spec("daps_recipes")
    for folder in map(Path, (spec.submodule_search_locations or []) if spec else []):
        photograph = folder / "images" / "astronaut.png"
        if channels in (1, 3) and photograph.exists():
            return fit(load_image(photograph, channels), (height, width))[None], photograph.name
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    decay = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width)) ** 1.5
    noise = rng.standard_normal((count, channels, height, width))
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * decay, s=(height, width))
    smooth /= 2.5 * smooth.std((1, 2, 3), keepdims=True)
    return torch.from_numpy(smooth.clip(-1, 1).astype(np.float32)), f"{count} smooth random images"
