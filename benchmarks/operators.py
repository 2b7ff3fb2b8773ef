"""How long the gradient of each operator's loss takes, against a plain form of the same operator with autograd.

    python -m benchmarks operators [--size 256] [--repeats 15]

3 channels, batch 1, one thread. The plain form of a blur is a dense convolution layer over the reflected image, as one
writes it first; of down-sampling a weighted sum over each coarse pixel's fine pixels; of the others the formula itself.
Each pair is measured in turn in one process, and the least time of each counts. Exit code 1 if a ratio that is promised
(`PROMISED`, at 256 pixels) is missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daps_kit.contracts import LinearOperator, Operator
from daps_kit.noise import GaussianNoise
from daps_operators.down_sampling import DownSampling, resize_matrix
from daps_operators.gaussian_blur import GaussianBlur, gaussian_taps
from daps_operators.high_dynamic_range import HighDynamicRange
from daps_operators.mask import Inpainting, random_mask
from daps_operators.motion_blur import MotionBlur
from daps_operators.motion_kernel import motion_kernel

PROMISED = {"gaussian_blur": 50.0, "motion_blur": 20.0}
"""Least ratios of the plain form's time to ours, at 256 pixels."""


def plain_blur(kernel: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a depthwise convolution layer with the kernel and reflected borders."""
    radius = kernel.shape[-1] // 2
    weight = kernel.float().expand(3, 1, -1, -1).contiguous()
    return lambda x: F.conv2d(F.pad(x, (radius,) * 4, mode="reflect"), weight, groups=3)


def plain_resize(size: int, factor: int) -> Callable[[Tensor], Tensor]:
    """Return down-sampling as a gather and a weighted sum, first along one axis, then along the other."""
    matrix = resize_matrix(size, factor)
    taps = int((matrix != 0).sum(1).max())
    fine = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps], axis=1)
    weights = torch.from_numpy(np.take_along_axis(matrix, fine, 1)).float()
    indices = torch.from_numpy(fine)

    def resize(x: Tensor) -> Tensor:
        rows = (x[:, :, indices] * weights[..., None]).sum(-2)
        return (rows[..., indices] * weights).sum(-1)

    return resize


def cases(size: int) -> dict[str, tuple[Operator, Callable[[Tensor], Tensor]]]:
    """Return each operator and its plain form."""
    shape, noise, rng = (3, size, size), GaussianNoise(0.05), np.random.default_rng(0)
    taps = gaussian_taps(61, 3.0)
    shake = torch.from_numpy(motion_kernel(61, 0.5, rng))[None, None]
    mask = torch.from_numpy(random_mask(rng, (size, size), (0.70, 0.71)))[None, None].float()
    return {
        "gaussian_blur": (
            GaussianBlur(shape, noise, 61, 3.0),
            plain_blur(torch.from_numpy(np.outer(taps, taps))[None, None]),
        ),
        "motion_blur": (MotionBlur(shape, noise, shake), plain_blur(shake)),
        "down_sampling": (DownSampling(shape, noise, 4), plain_resize(size, 4)),
        "inpainting": (Inpainting(shape, noise, mask), lambda x: x * mask),
        "high_dynamic_range": (HighDynamicRange(shape, noise, 2.0), lambda x: (2 * x).clamp(-1, 1)),
    }


def plain_gradient(forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of ||A(x) - y||^2 by autograd."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((forward(leaf) - y).square().sum(), leaf)
    return gradient


def least_times(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the least time of each function in seconds, all of them called in turn."""
    times = [float("inf")] * len(functions)
    for _ in range(repeats + 1):  # the first round, which fills the caches, is never the fastest
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            times[index] = min(times[index], time.perf_counter() - start)
    return times


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if a promised ratio is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks operators", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", type=int, default=256, help="pixels along a side of the image")
    parser.add_argument("--repeats", type=int, default=15, help="how often each is measured")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    size = options.size
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 3, size, size), generator=generator) * 2 - 1
    missed = []
    print(
        f"Gradient of the loss, {size} x {size}, 3 channels, batch 1, one thread (torch {torch.__version__})\n"
    )
    print("| operator | plain ms | ours ms | ratio | worst difference | (A^T A + 0.1 I)^{-1} ms |")
    print("|---|---|---|---|---|---|")
    for name, (operator, forward) in cases(size).items():
        y = operator.forward(x) + 0.05 * torch.randn(operator.forward(x).shape, generator=generator)
        point = x.roll(7, -1)
        expected, actual = plain_gradient(forward, point, y), operator.loss_grad(point, y)[1]
        worst = float((actual - expected).abs().max() / expected.abs().max())
        plain, ours = least_times(
            [
                lambda forward=forward, point=point, y=y: plain_gradient(forward, point, y),
                lambda operator=operator, point=point, y=y: operator.loss_grad(point, y),
            ],
            options.repeats,
        )
        solve = "-"
        if isinstance(operator, LinearOperator):
            inverse = operator.solve_normal
            (seconds,) = least_times([lambda inverse=inverse: inverse(x, 0.1)], max(2, options.repeats // 5))
            solve = f"{1e3 * seconds:.2f}"
        ratio = plain / ours
        print(
            f"| {name} | {1e3 * plain:.2f} | {1e3 * ours:.2f} | {ratio:.1f} | {worst:.1e} | {solve} |",
            flush=True,
        )
        if size == 256 and ratio < PROMISED.get(name, 0):
            missed.append(f"{name}: {ratio:.1f} times faster, promised {PROMISED[name]:g}")
    for line in missed:
        print(line)
    return 1 if missed else 0
