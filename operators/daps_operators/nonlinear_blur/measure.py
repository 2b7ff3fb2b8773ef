"""How well blurred pictures are reproduced, and what to compare it with."""

from __future__ import annotations

import io
import warnings

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .network import BlurEncoder, ShakeNetwork, path_kernel
from .pairs import Pairs

__all__ = ["fit_code", "linear_blur", "psnr", "sheet", "table"]

SHOWN = 12
"""Pairs in a picture."""


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of pictures on [0, 1] (clipped to it), [B] in decibels, at most 100."""
    error = (pictures.clamp(0, 1) - truth).square().flatten(1).mean(1)
    return -10 * error.clamp(min=1e-10).log10()


def linear_blur(sharp: Tensor, blurred: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return pictures blurred by the kernel that fits each pair best, and by the one that fits all pairs best.

    Kernels have 2 radius + 1 pixels a side and are found by least squares, the same for all colours.

    Args:
        sharp: [B, C, H + 2 m, W + 2 m] with any margin m >= radius.
        blurred: [B, C, H, W].
    """
    side, spare = 2 * radius + 1, (sharp.shape[-1] - blurred.shape[-1]) // 2 - radius
    inner = sharp[..., spare : sharp.shape[-2] - spare, spare : sharp.shape[-1] - spare].double()

    def patches(row: Tensor) -> Tensor:
        return F.unfold(row[:, None], side).mT.flatten(0, 1)

    own = []
    normal, right = inner.new_zeros(side**2, side**2), inner.new_zeros(side**2)
    ridge = 1e-7 * torch.eye(side**2).to(inner)
    for row, target in zip(inner, blurred.double(), strict=True):
        a = patches(row)
        gram, product = a.T @ a, a.T @ target.flatten()
        own.append((a @ torch.linalg.solve(gram + gram.diagonal().mean() * ridge, product)).view_as(target))
        normal, right = normal + gram, right + product
    kernel = torch.linalg.solve(normal + normal.diagonal().mean() * ridge, right)
    one = F.conv2d(inner.flatten(0, 1)[:, None], kernel.view(1, 1, side, side)).view_as(blurred)
    return torch.stack(own).to(blurred), one.to(blurred)


def fit_code(network: ShakeNetwork, u: Tensor, v: Tensor, code: Tensor, steps: int = 8) -> Tensor:
    """Return the codes [B, kernel_dim] near `code` that reproduce v best, by steps of Levenberg and Marquardt.

    Args:
        network: frozen.
        u: sharp pictures with the network's margin, [B, C, H + 2 m, W + 2 m].
        v: blurred pictures, [B, C, H, W].
        code: where to start, [B, kernel_dim].
        steps: how many; each costs one forward derivative for every number of the code.
    """
    return torch.stack([_fit(network, *row, steps) for row in zip(u, v, code, strict=True)])


def _fit(network: ShakeNetwork, u: Tensor, v: Tensor, code: Tensor, steps: int) -> Tensor:
    def residual(code: Tensor) -> Tensor:
        blurred: Tensor = network(u[None], code[None])[0]
        return (blurred - v).flatten()

    damping, r = 1e-2, residual(code)
    for _ in range(steps):
        with (
            warnings.catch_warnings()
        ):  # the forward derivatives of torch 2.13 use a part of it that it deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            jacobian = torch.func.jacfwd(residual)(code)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ r
        shift = damping * (normal.diagonal().mean() + 1e-9) * torch.eye(len(code), dtype=code.dtype)
        candidate = code - torch.linalg.solve(normal + shift, gradient)
        after = residual(candidate)
        if bool(after.square().sum() < r.square().sum()):
            code, r, damping = candidate, after, damping / 5
        else:
            damping *= 4
    return code


@torch.no_grad()
def table(
    network: ShakeNetwork, encoder: BlurEncoder, pairs: Pairs, steps: int = 0
) -> dict[str, dict[str, float]]:
    """Return by method mean, median and lowest tenth of the reproductions' PSNR; with `steps`, of fitted codes too."""
    m, height, width = network.margin, *pairs.blurred.shape[-2:]
    inner = pairs.sharp[..., m : m + height, m : m + width]
    code, _ = encoder(inner, pairs.blurred)
    found = {"encoder": network(pairs.sharp, code)}
    if steps:
        own, one = linear_blur(pairs.sharp, pairs.blurred, min(7, m))
        fitted = fit_code(network, pairs.sharp, pairs.blurred, code, steps)
        found = {"identity": inner, "one linear": one, "own linear": own} | found
        found["fitted code"] = network(pairs.sharp, fitted)
    rows = {}
    for name, pictures in found.items():
        values = psnr(pictures, pairs.blurred)
        rows[name] = {
            "mean": float(values.mean()),
            "median": float(values.median()),
            "lowest tenth": float(values.quantile(0.1)),
        }
    return rows


@torch.no_grad()
def sheet(network: ShakeNetwork, encoder: BlurEncoder, pairs: Pairs) -> bytes:
    """Return a .png of sharp pictures, their blurred twins, the reproductions, and true and found kernels."""
    rows = slice(0, None, max(1, len(pairs.sharp) // SHOWN))
    sharp, v, paths = pairs.sharp[rows][:SHOWN], pairs.blurred[rows][:SHOWN], pairs.paths[rows][:SHOWN]
    m, size = network.margin, v.shape[-2:]
    u = sharp[..., m : m + size[0], m : m + size[1]]
    code, _ = encoder(u, v)
    kernels = torch.stack([path_kernel(paths, m), network.adapter.kernel(code)])
    kernels = kernels / kernels.amax((2, 3), keepdim=True)
    shown = [F.interpolate(k[:, None], size).expand_as(v) for k in kernels]
    lines = torch.stack([u, v, network(sharp, code).clamp(0, 1), *shown])  # row, column, C, H, W
    pixels = lines.permute(0, 3, 1, 4, 2).reshape(len(lines) * size[0], -1, u.shape[1])
    file = io.BytesIO()
    Image.fromarray((255 * pixels).round().byte().numpy()).save(file, "png")
    return file.getvalue()
