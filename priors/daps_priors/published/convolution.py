r"""Convolutions of a U-Net, arranged for the least work on a CPU; elsewhere the library's own kernels are used.

3 x 3, stride 1. Winograd's F(2 x 2, 3 x 3) makes a 2 x 2 tile of outputs y from a 4 x 4 tile of inputs d with 16
products instead of 36:

    y = A^T [(G g G^T) * (B^T d B)] A,      g the 3 x 3 weights, * by elements, summed over channels,

    B^T = [1  0 -1  0     G = [ 1   0   0    A^T = [1  1  1  0
           0  1  1  0          .5  .5  .5           0  1 -1 -1]
           0 -1  1  0          .5 -.5  .5
           0  1  0 -1]          0   0   1]

so that all tiles of all channels are 16 matrix products. In float32 its error is that of the direct sum.

Nearest-neighbour doubling, then 3 x 3. Doubling is a transposed convolution of stride 2 with a 2 x 2 kernel of ones, so
the two together are one transposed convolution with a 4 x 4 kernel: 4 products for every output instead of 9.

1 x 1, added to something: one matrix product that accumulates.

Source: Lavin and Gray, arXiv 1509.09308.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

WINOGRAD_PLACES = 4096  # on smaller maps transforming the weights costs what the products save
WINOGRAD_THREADS = 4  # with many threads the direct convolution shares its work out better
DOUBLING_PLACES = 256
STRIP = 128  # tiles a thread works on at once: what it needs stays in the cache


def _elsewhere(x: Tensor) -> bool:
    return x.device.type != "cpu"


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(x) for a 3 x 3 convolution of stride 1 and padding 1; x [B, C, H, W]."""
    height, width = x.shape[2:]
    if (
        _elsewhere(x)
        or torch.is_grad_enabled()
        or x.dtype != torch.float32
        or not _channels_last(x)
        or height * width < WINOGRAD_PLACES
        or height % 2 + width % 2
        or conv.in_channels < 64
        or conv.out_channels < 64
        or torch.get_num_threads() > WINOGRAD_THREADS
    ):
        return cast(Tensor, conv(x))
    half = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1.0]])
    g = conv.weight.permute(2, 3, 1, 0).reshape(9, -1)
    kernel = (torch.kron(half, half) @ g).view(16, conv.in_channels, conv.out_channels)
    y = torch.empty(len(x), height, width, conv.out_channels)
    for image, out in zip(x.permute(0, 2, 3, 1), y, strict=True):
        _winograd(image, kernel, cast(Tensor, conv.bias), out)
    return y.permute(0, 3, 1, 2)


def _winograd(x: Tensor, kernel: Tensor, bias: Tensor, y: Tensor) -> None:
    """Convolve x [H, W, C] with transformed weights [16, C, O] into y [H, W, O], a few rows of tiles at a time."""
    height, width, channels = x.shape
    outputs, tiles = y.shape[2], width // 2
    rows = max(1, min(height // 2, STRIP * torch.get_num_threads() // tiles))
    while height // 2 % rows:
        rows -= 1
    padded = x.new_zeros(2 * rows + 2, width + 2, channels)
    b = x.new_empty(4, rows, width + 2, channels)  # B^T d
    v = x.new_empty(4, 4, rows, tiles, channels)  # B^T d B
    m = x.new_empty(4, 4, rows, tiles, outputs)
    a = x.new_empty(4, rows, tiles, outputs)  # A^T m
    c = x.new_empty(rows, tiles, outputs)
    d0, d1, d2, d3 = (padded[i : i + 2 * rows - 1 : 2] for i in range(4))
    b0, b1, b2, b3 = (b[:, :, i : i + width - 1 : 2] for i in range(4))
    for top in range(0, height, 2 * rows):
        first, last = max(top - 1, 0), min(top + 2 * rows + 1, height)
        padded[0].zero_()
        padded[-1].zero_()
        padded[first - top + 1 : last - top + 1, 1:-1] = x[first:last]
        torch.sub(d0, d2, out=b[0])
        torch.add(d1, d2, out=b[1])
        torch.sub(d2, d1, out=b[2])
        torch.sub(d1, d3, out=b[3])
        torch.sub(b0, b2, out=v[:, 0])
        torch.add(b1, b2, out=v[:, 1])
        torch.sub(b2, b1, out=v[:, 2])
        torch.sub(b1, b3, out=v[:, 3])
        torch.bmm(v.view(16, -1, channels), kernel, out=m.view(16, -1, outputs))
        out = y[top : top + 2 * rows].view(rows, 2, tiles, 2, outputs)
        for i in range(2):
            if i == 0:
                torch.add(m[0], m[1], out=a).add_(m[2])
            else:
                torch.sub(m[1], m[2], out=a).sub_(m[3])
            torch.add(a[0], a[1], out=c).add_(a[2])
            torch.add(c, bias, out=out[:, i, :, 0])
            torch.sub(a[1], a[2], out=c).sub_(a[3])
            torch.add(c, bias, out=out[:, i, :, 1])


def double_and_convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(nearest-neighbour doubling of x) for a 3 x 3 convolution of padding 1; [B, C, H, W] -> [B, O, 2 H, 2 W]."""
    if _elsewhere(x) or x.shape[2] * x.shape[3] < DOUBLING_PLACES:
        return cast(Tensor, conv(functional.interpolate(x, scale_factor=2.0, mode="nearest")))
    padded = functional.pad(conv.weight.float(), (1, 1, 1, 1))
    rows = padded[:, :, 1:] + padded[:, :, :-1]
    kernel = (rows[..., 1:] + rows[..., :-1]).flip(2, 3).transpose(0, 1).to(x.dtype)
    return functional.conv_transpose2d(x, kernel, conv.bias, stride=2, padding=1)


def add_projection(h: Tensor, x: Tensor, conv: nn.Conv2d) -> Tensor:
    """h + (1 x 1 convolution of x), in the place of h where no gradient needs it."""
    if torch.is_grad_enabled() or not (_channels_last(h) and _channels_last(x)):
        return h + cast(Tensor, conv(x))
    rows = h.permute(0, 2, 3, 1).flatten(0, 2)
    rows.add_(cast(Tensor, conv.bias)).addmm_(x.permute(0, 2, 3, 1).flatten(0, 2), conv.weight.flatten(1).t())
    return h
