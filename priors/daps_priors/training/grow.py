"""Starting a network from the finished weights of a smaller one: wider, deeper, or the same.

The grown network computes what the small one did: its weights are copied, new channels are computed as in a fresh
network but nothing old reads them yet (those weights are zero and learn), and new blocks and attention layers begin as
the identity. Group normalisation takes part in it because its groups have a fixed number of channels.

Source: Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016, arXiv
1511.05641, for the idea; widening here is by fresh channels, not by copies of the old.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from daps_priors.trained.network import Denoiser
from daps_priors.trained.unet import HEAD

_IN_PARTS = re.compile(r"unet\.up\.\d+\.0\.(norm1|conv1|skip)\.")  # reads [up, skip]
_OUT_PARTS = {"modulation": 2, "qkv": 3}  # writes [scale, shift], [query, key, value]


def grow(small: Denoiser, large: Denoiser) -> None:
    """Overwrite a fresh `large` so that it computes what `small` does.

    Raises:
        ValueError: `large` is narrower or shallower somewhere, or made for images of another shape.
    """
    found, target = small.state_dict(), large.state_dict()
    missing = [name for name in found if name not in target]
    if missing or small.shape != large.shape:
        raise ValueError("the weights to start from are of a deeper network, or of images of another shape")
    large.gauss = small.gauss
    with torch.no_grad():
        for name, old in found.items():
            if name.startswith("unet."):
                _write(name, old, target[name])


def _write(name: str, old: Tensor, new: Tensor) -> None:
    if any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
        raise ValueError(
            f"the weights to start from are wider: {name} has shape {tuple(old.shape)}, here {tuple(new.shape)}"
        )
    layer = name.split(".")[-2]
    if layer == "maps":
        new[:, : old.shape[1]] = old
        return
    if layer == "qkv" and old.shape != new.shape and (old.shape[0] % (3 * HEAD) or new.shape[0] % (3 * HEAD)):
        raise ValueError(
            f"the weights to start from are narrower where attention is, and not both widths are multiples of {HEAD}"
        )
    reads = 2 if _IN_PARTS.match(name) else 1
    writes = reads if layer == "norm1" else _OUT_PARTS.get(layer, 1)
    rows = _places(old.shape[0], new.shape[0], writes)
    if old.ndim == 1:
        new[rows] = old
    else:
        new[rows] = 0
        new[rows[:, None], _places(old.shape[1], new.shape[1], reads)] = old


def _places(old: int, new: int, parts: int) -> Tensor:
    """Where the old channels are among the new: the first ones of each part."""
    starts = torch.arange(parts) * (new // parts)
    return (starts[:, None] + torch.arange(old // parts)).flatten()
