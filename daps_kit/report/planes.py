"""The pictures of an image as data: what the page shows, magnifies, and reads the values of a pixel from.

A page that is opened from a disk may not read the pixels of picture files beside it. So each picture is text, a `data:`
address, in a file of script: 8 bits a channel, without loss. Maps (standard deviation, width of the interval, error of
the mean) are grey pictures with the value that 255 stands for; the page colours them.
"""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from daps_kit.images import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from .reading import Result

__all__ = ["LARGEST", "THUMB", "image_data", "level_data", "thumb"]

LARGEST = 1024
"""The longest side of a picture on the page; larger images are shown reduced."""

LEVEL = 192
"""The same on the way through the noise levels."""

THUMB = 72
"""Height and width at most of a picture in the list."""


def image_data(result: Result, name: str) -> dict[str, Any]:
    """Return the pictures of an image.

    Returns:
        `size` [H, W] of the image, its `channels` (1 or 3) and `shown` [h, w] of its pictures; `truth`, `measurement`,
        `mean` and `samples` (None where lost) as addresses; `maps` by name, each an address and its largest value.
    """
    samples, truth = result.samples(name), result.truth(name)
    alive = [x for x in samples if x is not None]
    moments = result.posterior(name)
    mean = moments.get("mean", alive[0] if len(alive) == 1 else None)
    any_image = next((x for x in (truth, mean) if x is not None), None)
    height, width = (any_image if any_image is not None else torch.zeros(1, 1, 1)).shape[-2:]
    maps = {}
    if "std" in moments:
        maps["std"] = _map(_rms(moments["std"]))
        maps["width"] = _map(_rms(moments["q95"] - moments["q05"]))
    if truth is not None and mean is not None:
        maps["error"] = _map(_rms(mean - truth))
    return {
        "size": [height, width],
        "channels": 3 if any_image is not None and len(any_image) >= 3 else 1,
        "shown": list(_reduced_size(height, width, LARGEST)),
        "truth": _picture(truth),
        "measurement": _measurement(result, name),
        "mean": _picture(mean) if len(alive) > 1 else None,
        "samples": [_picture(x) for x in samples],
        "maps": maps,
    }


def level_data(result: Result, name: str) -> dict[str, Any] | None:
    """Return what was kept of the way through the noise levels; None where nothing was.

    Returns:
        `sigma` of each level; by run, `pictures` of x_t / sqrt(1 + sigma^2), x0hat and x0y at each level; of several
        runs also those of their mean, under `mean`.
    """
    found = {run: result.trajectory(name, run) for run in range(result.runs)}
    found = {run: tensors for run, tensors in found.items() if tensors}
    if not found:
        return None
    sigma = next(iter(found.values()))["sigma"]
    scale = (1 + sigma.square()).sqrt().float()[:, None, None, None]
    ways = {str(run): {**t, "x_t": t["x_t"] / scale} for run, t in found.items()}
    whole = [t for t in ways.values() if all(bool(torch.isfinite(t[key]).all()) for key in _LEVEL_KEYS)]
    if len(whole) > 1:
        ways = {"mean": {key: torch.stack([t[key] for t in whole]).mean(0) for key in _LEVEL_KEYS}, **ways}
    return {
        "sigma": sigma.tolist(),
        "pictures": {
            run: {key: [_picture(x, LEVEL, lossless=False) for x in t[key]] for key in _LEVEL_KEYS}
            for run, t in ways.items()
        },
    }


_LEVEL_KEYS = ("x_t", "x0hat", "x0y")


def thumb(result: Result, name: str) -> str | None:
    """Return a small picture of the mean of an image, or of its only sample; None where all were lost."""
    mean = result.posterior(name).get("mean")
    if mean is None:
        mean = next((x for x in result.samples(name) if x is not None), None)
    return _picture(mean, THUMB, lossless=False)


# --- encoding


def _measurement(result: Result, name: str) -> str | None:
    shown = result.picture(name)
    if shown is None:
        return None
    height, width = _reduced_size(shown.height, shown.width, LARGEST)
    size = (width, height)
    return _address(shown.resize(size, Image.Resampling.BOX) if size != shown.size else shown)


def _picture(x: Tensor | None, largest: int | None = None, *, lossless: bool = True) -> str | None:
    """Return an image [C, H, W] in [-1, 1] as an address."""
    if x is None:
        return None
    levels = to_uint8(_reduced(x, largest or LARGEST))
    return _address(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), lossless=lossless)


def _rms(x: Tensor) -> Tensor:
    """Return the root of the mean square over the channels, [1, H, W]."""
    return x.detach().float().square().mean(0, keepdim=True).sqrt()


def _map(values: Tensor) -> dict[str, Any]:
    """Return values from 0 up, [1, H, W], as an address; the brightest is the 99.5 % quantile."""
    shown = _reduced(values, LARGEST)[0].numpy()
    top = float(f"{max(float(np.quantile(shown, 0.995)), 1e-6):.4g}")
    levels = np.round(shown / top * 255).clip(0, 255).astype(np.uint8)
    return {"picture": _address(Image.fromarray(levels)), "top": top}


def _reduced_size(height: int, width: int, largest: int) -> tuple[int, int]:
    ratio = min(1.0, largest / max(height, width))
    return max(1, math.floor(height * ratio + 0.5)), max(1, math.floor(width * ratio + 0.5))


def _reduced(x: Tensor, largest: int) -> Tensor:
    """Return an image [C, H, W] with sides of at most so many pixels, each the mean of those it stands for."""
    size, x = _reduced_size(x.shape[-2], x.shape[-1], largest), x.detach().float()
    return x if size == tuple(x.shape[-2:]) else adaptive_avg_pool2d(x, size)


def _address(picture: Image.Image, *, lossless: bool = True) -> str:
    buffer = io.BytesIO()
    if lossless:
        picture.save(buffer, "WEBP", lossless=True, method=1, quality=20, exact=True)
    else:
        picture.save(buffer, "WEBP", quality=80, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
