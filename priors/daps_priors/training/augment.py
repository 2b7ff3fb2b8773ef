"""Random changes of training images, batched and drawn from a given generator.

Every image may be mirrored and shifted by whole pixels, which leaves its statistics as they are. A share of the images
also gets one affine warp (bicubic), a change of colour and, for aligned portraits, other surroundings, so that the
prior knows pictures taken elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How images are changed; the strong changes fall on a share of them only.

    Attributes:
        flip: whether half of the images are mirrored left to right.
        jitter: largest whole-pixel shift of every image.
        strong: share of the images that the changes below are made to.
        shift: standard deviation of the shift, pixels.
        scale: standard deviation of log scale.
        rotation: standard deviation of the rotation, degrees.
        colour: strength of brightness, contrast, gamma, tint and saturation.
        background: share of the strong ones whose surroundings are replaced.
    """

    flip: bool = True
    jitter: int = 0
    strong: float = 0.0
    shift: float = 2.5
    scale: float = 0.08
    rotation: float = 7.0
    colour: float = 0.35
    background: float = 0.0


def augment(images: Tensor, frame: int, changes: Augmentation, generator: torch.Generator) -> Tensor:
    """uint8 [B, H, W, C] with H, W >= frame -> float32 [B, C, frame, frame] in [-1, 1]."""
    batch = len(images)
    x = images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if changes.flip:
        mirrored = torch.rand(batch, generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    out = _shifted_crops(x, frame, changes.jitter, generator)
    strong = (torch.rand(batch, generator=generator) < changes.strong).nonzero()[:, 0]
    if len(strong):
        warped, mask = _warp(x[strong], frame, changes, generator)
        if changes.background:
            warped = _background(warped, mask, changes.background, generator)
        out[strong] = _colour(warped, changes.colour, generator)
    return out


def centre(images: Tensor, frame: int) -> Tensor:
    """The frame of each image, unchanged: uint8 [B, H, W, C] -> float32 [B, C, frame, frame] in [-1, 1]."""
    top, left = (images.shape[1] - frame) // 2, (images.shape[2] - frame) // 2
    crop = images[:, top : top + frame, left : left + frame]
    return crop.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _shifted_crops(x: Tensor, frame: int, jitter: int, generator: torch.Generator) -> Tensor:
    top, left = (x.shape[2] - frame) // 2, (x.shape[3] - frame) // 2
    shifts = torch.randint(-jitter, jitter + 1, (len(x), 2), generator=generator).tolist()
    crops = [
        image[:, top + dy : top + dy + frame, left + dx : left + dx + frame]
        for image, (dy, dx) in zip(x, shifts, strict=True)
    ]
    return torch.stack(crops)


def _warp(x: Tensor, frame: int, changes: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One affine map of each image, and of the portrait mask with it: [B, C, frame, frame], [B, 1, frame, frame]."""
    batch, _, height, width = x.shape
    normal = torch.randn(4, batch, generator=generator)
    angle = normal[0] * math.radians(changes.rotation)
    zoom = (normal[1] * changes.scale).exp()
    dy, dx = normal[2] * changes.shift, normal[3] * changes.shift
    steps = torch.arange(frame, dtype=torch.float32) - (frame - 1) / 2
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    cos, sin = (torch.cos(angle) * zoom)[:, None, None], (torch.sin(angle) * zoom)[:, None, None]
    across = cos * u - sin * v + dx[:, None, None]
    down = sin * u + cos * v + dy[:, None, None]
    grid = torch.stack((across * 2 / width, down * 2 / height), dim=-1)
    mask = portrait_mask(height, width, frame).expand(batch, 1, height, width)
    warped = functional.grid_sample(
        torch.cat((x, mask), dim=1), grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return warped[:, :-1].clamp(-1, 1), warped[:, -1:].clamp(0, 1)


def portrait_mask(height: int, width: int, frame: int) -> Tensor:
    """Softly 1 on head and shoulders of an aligned portrait, 0 elsewhere: [1, 1, H, W]."""
    v = ((torch.arange(height) + 0.5 - height / 2) / frame)[:, None]
    u = ((torch.arange(width) + 0.5 - width / 2) / frame)[None, :]
    head = ((u / 0.42).square() + ((v + 0.04) / 0.54).square()).sqrt()
    torso = ((u / 0.72).square() + ((v - 0.72) / 0.42).square()).sqrt()
    inside = torch.minimum(head, torso)
    return torch.sigmoid((1 - inside) / 0.035)[None, None]


def _background(x: Tensor, mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Put other surroundings (a colour gradient, or a blurred neighbour of the batch) behind a share of the images."""
    batch, channels, height, width = x.shape
    corners = torch.rand(batch, channels, 2, 2, generator=generator) * 2 - 1
    grey = corners.mean((1, 2, 3), keepdim=True)
    spread = torch.rand(batch, 1, 1, 1, generator=generator)
    corners = grey + spread * (corners - grey)
    gradient = functional.interpolate(corners, (height, width), mode="bilinear", align_corners=True)
    coarse = functional.adaptive_avg_pool2d(x.roll(1, 0), 8)
    blurred = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(
        -1, 1
    )
    draw = torch.rand(batch, 2, generator=generator)
    other = torch.where((draw[:, 0] < 0.5)[:, None, None, None], gradient, blurred)
    keep = torch.where((draw[:, 1] < share)[:, None, None, None], mask, torch.ones_like(mask))
    return other + keep * (x - other)


def _colour(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gamma, contrast, brightness, a tint of each channel and saturation, on a [0, 1] scale."""
    batch, channels = x.shape[:2]
    normal = torch.randn(batch, channels + 4, 1, 1, generator=generator) * strength
    gamma = (0.4 * normal[:, 0:1]).exp()
    contrast = (0.25 * normal[:, 1:2]).exp()
    brightness = 0.15 * normal[:, 2:3]
    saturation = (0.5 * normal[:, 3:4]).exp()
    tint = (0.12 * normal[:, 4:]).exp()
    z = ((x + 1) / 2).clamp(0, 1).pow(gamma) * tint
    grey = z.mean(1, keepdim=True)
    z = grey + saturation * (z - grey)
    mean = z.mean((2, 3), keepdim=True)
    z = mean + contrast * (z - mean) + brightness
    return (z * 2 - 1).clamp(-1, 1)
