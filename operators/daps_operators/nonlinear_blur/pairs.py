r"""Sharp and blurred pictures of a scene, as a shaken camera takes them.

A photograph w on [0, 1] becomes a scene of linear light, which goes on beyond white; the camera shakes, exposes, clips:

    s = l(w) (1 + (g - 1) h(w)) + lamps        l: sRGB to linear light; h: 0 below light 0.8, 1 at white
    u = t(e s)         v = t(e K s)            t: clip to [0, 1], then linear light to sRGB

with K the time that the shake spends at each offset. Drawn for each pair: gain of highlights g = 2^U[0, 3], exposure
e = 2^U[-1.5, 0.75], and in a third of the pairs one to four small lamps of light 2^U[0, 4]. So u does not tell all:
where it is white, the scene may be far brighter, and its blur is a white streak.

Source: the transfer curve is that of IEC 61966-2-1 (sRGB); the path of a shake is that of `motion_kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from daps_kit.arrays import read_numbers
from daps_kit.errors import UserError
from daps_kit.images import load_image, to_uint8
from daps_kit.training_images import picture_files
from daps_operators.motion_kernel import shake_path

from .network import path_kernel

__all__ = ["Pairs", "draw_pairs", "draw_paths", "draw_shapes", "load_tiles"]

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

MOMENTS = 256
"""Moments of a simulated shake."""
LONGEST = 16.0
"""The longest path of a shake, in pixels."""


_VALUES = np.arange(256) / 255
LIGHT = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(np.float32)
"""Linear light of the sRGB values 0 to 255."""


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs.

    Attributes:
        sharp: u with a margin, [B, 3, frame + 2 margin, frame + 2 margin] on [0, 1].
        blurred: v, [B, 3, frame, frame] on [0, 1].
        paths: of the shakes, [B, 2, moments] in pixels.
    """

    sharp: Tensor
    blurred: Tensor
    paths: Tensor


def draw_shapes(count: int, rng: Rng) -> Tensor:
    """Draw the shapes of shakes: (x, y) at equal moments, [count, 2, moments], of mean 0 and length 1.

    A path of random steps (see `motion_kernel`) of an intensity ~ U[0.1, 0.8] spends equal times on its steps.
    """
    shapes = np.empty((count, 2, MOMENTS), np.float32)
    for shape in shapes:
        path = shake_path(1.0, rng.uniform(0.1, 0.8), rng)
        if len(path) < 2:  # a single step: a straight line
            path = np.array([-1.0, 1.0])
        when = np.linspace(0, len(path) - 1, MOMENTS)
        shape[:] = [np.interp(when, np.arange(len(path)), part) for part in (path.real, path.imag)]
    shapes -= shapes.mean(2, keepdims=True)
    lengths = np.hypot(*np.diff(shapes).swapaxes(0, 1)).sum(1)
    return torch.from_numpy(shapes / lengths[:, None, None])


def draw_paths(shapes: Tensor, count: int, radius: int, rng: Rng) -> Tensor:
    """Draw paths in pixels: shapes turned anew, of a length ~ U[0, 16] or less where they would leave the radius."""
    chosen = shapes[torch.from_numpy(rng.integers(0, len(shapes), count))]
    angle = rng.uniform(0, 2 * np.pi, count)
    turn = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * rng.uniform(
        0, LONGEST, count
    )
    paths = torch.from_numpy(turn).float().movedim(2, 0) @ chosen
    farthest = paths.abs().amax((1, 2), keepdim=True)
    return paths * (radius / farthest.clamp(min=radius))


def to_picture(light: Tensor) -> Tensor:
    """Return the sRGB values of linear light, clipped to white."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def draw_scene(tile: Pixels, side: int, rng: Rng) -> NDArray[np.float32]:
    """Draw a scene from a picture [H, W, 3]: turned, mirrored, cut to [side, side, 3], with highlights and lamps."""
    top, left = (int(rng.integers(0, n - side + 1)) for n in tile.shape[:2])
    cut = np.rot90(tile[top : top + side, left : left + side], int(rng.integers(0, 4)))
    cut = cut[:, ::-1] if rng.random() < 0.5 else cut
    light: NDArray[np.float32] = LIGHT[cut]
    brightest = light.max(2, keepdims=True)
    light *= 1 + np.float32(2.0 ** rng.uniform(0, 3) - 1) * ((brightest - 0.8) / 0.2).clip(0)
    if rng.random() < 1 / 3:
        power, rows = 2.0 ** rng.uniform(0, 4), np.arange(side)
        for _ in range(rng.integers(1, 5)):
            y, x = rng.uniform(0, side, 2)
            disc = (rng.uniform(0.5, 2.5) + 0.5 - np.hypot(rows[:, None] - y, rows - x)).clip(0, 1)
            light += (power * disc[..., None] * rng.uniform(0.6, 1, 3)).astype(np.float32)
    light *= np.float32(2.0 ** rng.uniform(-1.5, 0.75))
    return light


def draw_pairs(pool: Sequence[Pixels], paths: Tensor, frame: int, margin: int, rng: Rng) -> Pairs:
    """Draw pairs from pictures [H, W, 3] of at least frame + 2 margin pixels: pair b from `pool[b]` and `paths[b]`."""
    side = frame + 2 * margin
    scene = torch.from_numpy(np.stack([draw_scene(picture, side, rng) for picture in pool])).movedim(3, 1)
    response = torch.fft.rfft2(path_kernel(paths, margin), s=(side, side))[:, None]
    shaken = torch.fft.irfft2(torch.fft.rfft2(scene) * response, s=(side, side))[
        ..., 2 * margin :, 2 * margin :
    ]
    return Pairs(to_picture(scene), to_picture(shaken), paths)


def load_tiles(source: Path, side: int) -> list[list[Pixels]]:
    """Return the tiles of every picture of a folder, a glob or a .npz file with uint8 `images` [N, H, W, 3].

    A picture is cut into squares of `side` pixels, at its size and at halves of it.

    Raises:
        UserError: nothing is found, a file cannot be read, or a picture is too small.
    """
    found = []
    for name, picture in _pictures(source):
        if min(picture.shape[:2]) < side:
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            raise UserError(f"{name} is {size} pixels: too small, frame and margin need {side} x {side}")
        found.append(_tiles(picture, side))
    return found


def _tiles(picture: Pixels, side: int) -> list[Pixels]:
    tiles = []
    while min(picture.shape[:2]) >= side:
        tops, lefts = (range(0, n - side + 1, side) for n in picture.shape[:2])
        tiles += [picture[top : top + side, left : left + side] for top in tops for left in lefts]
        height, width = (n // 2 for n in picture.shape[:2])
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    return tiles


def _pictures(source: Path) -> Iterator[tuple[str, Pixels]]:
    """Yield names and pictures [H, W, 3]."""
    if source.suffix == ".npz":
        images = read_numbers(source, "images", setting=None).values
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            shape = list(images.shape)
            raise UserError(f"{source}: `images` must be uint8 [N, H, W, 3], not {images.dtype} {shape}")
        for row, image in enumerate(images):
            yield f"{source}, row {row}", image
        return
    for file in picture_files(source):
        yield str(file), to_uint8(load_image(file, 3))
