"""Random changes of images: they are those that were asked for."""

from __future__ import annotations

import pytest
import torch

from daps_priors.training.augment import Augmentation, augment, centre
from tests.priors.training.discs import shapes


def test_no_augmentation_is_the_frame_itself() -> None:
    images = torch.from_numpy(shapes(4, 20))
    found = augment(images, 16, Augmentation(flip=False), torch.Generator().manual_seed(0))
    assert torch.equal(found, centre(images, 16))
    assert torch.equal(centre(images, 16)[0, :, 0, 0], images[0, 2, 2].float() / 127.5 - 1)


def test_jitter_shifts_by_whole_pixels_and_flip_mirrors() -> None:
    images = torch.from_numpy(shapes(200, 20))
    found = augment(images, 16, Augmentation(jitter=1), torch.Generator().manual_seed(0))
    clean = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    kinds = set()
    for image, x in zip(clean, found, strict=True):
        for mirrored in (False, True):
            candidate = image.flip(-1) if mirrored else image
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if torch.allclose(candidate[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx], x, atol=1e-6):
                        kinds.add((mirrored, dy, dx))
                        break
    assert len(kinds) == 18


def test_a_warp_without_spread_is_the_frame() -> None:
    images = torch.from_numpy(shapes(4, 20))
    still = Augmentation(flip=False, strong=1.0, shift=0.0, scale=0.0, rotation=0.0, colour=0.0)
    found = augment(images, 16, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, centre(images, 16), rtol=0, atol=4e-3)


def test_a_warp_shifts_and_scales_as_asked() -> None:
    grid = torch.arange(40, dtype=torch.float32)
    blob = 255 * torch.exp(-((grid[:, None] - 19.5) ** 2 + (grid - 19.5) ** 2) / (2 * 2.0**2))
    images = blob.to(torch.uint8)[None, :, :, None].expand(300, 40, 40, 1)
    settings = Augmentation(flip=False, strong=1.0, shift=2.0, scale=0.1, rotation=10.0, colour=0.0)
    found = (augment(images, 32, settings, torch.Generator().manual_seed(0))[:, 0] + 1).clamp_min(0)
    mass = found.sum((1, 2))
    row = (found.sum(2) * torch.arange(32)).sum(1) / mass - 15.5
    assert float(row.std()) == pytest.approx(2.0, rel=0.15)
    spread = (found.sum(2) * (torch.arange(32) - 15.5 - row[:, None]) ** 2).sum(1) / mass
    assert float((spread.log() / 2).std()) == pytest.approx(0.1, rel=0.2)


def test_backgrounds_change_only_what_lies_outside() -> None:
    images = torch.full((50, 88, 88, 3), 128, dtype=torch.uint8)
    still = {"flip": False, "strong": 1.0, "shift": 0.0, "scale": 0.0, "rotation": 0.0, "colour": 0.0}
    settings = Augmentation(**still, background=1.0)
    found = augment(images, 64, settings, torch.Generator().manual_seed(0))
    inside = found[:, :, 20:40, 20:44]
    torch.testing.assert_close(inside, torch.full_like(inside, 128 / 127.5 - 1), rtol=0, atol=0.01)
    assert float(found[:, :, :4, :4].std(0).mean()) > 0.1
