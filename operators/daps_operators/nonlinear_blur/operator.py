r"""Nonlinear blur: A(x) = clip(2 b(x / 2 + 1 / 2, k) - 1, -1, 1), with b the blur network and k its kernel code.

Images are reflected at their borders, to what the network takes multiples of and needs around them, and cropped after
it. The code of the published network has a vector for each square of the bordered image, that of the embedded one a
single vector: a shake is the same everywhere.

Source: Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR 2023, for the task;
`bkse` for the published network, `network` for the embedded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from daps_kit.arrays import read_map
from daps_kit.contracts import Noise, Operator, Shape
from daps_kit.errors import UserError
from daps_kit.weights.checkpoints import cache_folder
from daps_operators.reflection import Border, reflect

from .coded_blur import CodedBlur
from .sources import PUBLISHED
from .weights import load_blur

__all__ = ["NonlinearBlur", "build_nonlinear_blur", "published_weights"]

EMBEDDED = Path(__file__).parents[1] / "weights" / "blur64.safetensors"
DOWNLOAD = "https://drive.google.com/file/d/1vRoDpIsrTRYZKsOMPNbPcMtFDpCT6Foy"


class NonlinearBlur(Operator):
    """The blur of a network, for images of any size.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        network: the blur network.
        code: kernel codes [1 or B, kernel_dim, h, w] with (h, w) = `code_size(network, shape)`.
    """

    def __init__(self, shape: Shape, noise: Noise, network: CodedBlur, code: Tensor) -> None:
        super().__init__(shape, noise)
        self.network = network
        self.code = code
        self._vertical, self._horizontal = (_border(side, network) for side in shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Return the blurred images, [B, C, H, W] in [-1, 1]."""
        u = reflect(x / 2 + 0.5, self._vertical, self._horizontal)
        blurred = self.network.like(u)(u, self.code.to(u))
        top, left = (border[0] - self.network.margin for border in (self._vertical, self._horizontal))
        height, width = self.shape[1:]
        y: Tensor = (2 * blurred[..., top : top + height, left : left + width] - 1).clamp(-1, 1)
        return y

    def state(self) -> dict[str, Tensor]:
        """Return the kernel code."""
        return {"kernel": self.code}

    @classmethod
    def stack(cls, operators: Sequence[Operator]) -> Operator:
        """Join operators of one network into one whose sample b has the code of `operators[b]`."""
        first = operators[0]
        blurs = [operator for operator in operators if isinstance(operator, NonlinearBlur)]
        if all(operator is first for operator in operators) or len({id(blur.network) for blur in blurs}) != 1:
            return super().stack(operators)
        return cls(first.shape, first.noise, blurs[0].network, torch.cat([blur.code for blur in blurs]))


def code_size(network: CodedBlur, shape: Shape) -> tuple[int, int]:
    """Return how many code vectors an image has, down and across."""
    return network.code_size(*shape[1:])


def published_weights() -> Path:
    """Return where the published weights are looked for: in the folder of fetched checkpoints."""
    return cache_folder() / PUBLISHED.file


def build_nonlinear_blur(
    shape: Shape,
    noise: Noise,
    weights: Literal["embedded", "published"] | Path,
    kernel: Literal["published", "random"] | Path,
    *,
    kernel_scale: float,
    seed: int,
    device: torch.device,
) -> NonlinearBlur:
    """Return the operator with its network and its code, drawn or read.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        weights: of the network: a file, or which of the known ones.
        kernel: the code: a file, "random", or "published", which is the same for every seed.
        kernel_scale: standard deviation of a drawn code.
        seed: of a random code.
        device: where to compute.

    Raises:
        UserError: the weights are missing or damaged, or the code or the images do not fit them.
    """
    path = EMBEDDED if weights == "embedded" else Path(weights)
    if weights == "published":
        path = published_weights()
        if not path.is_file():
            raise UserError(
                f"nonlinear_blur needs weights that are not there: download {PUBLISHED.file} (461 MB) from {DOWNLOAD} "
                f"and save it as {path}, or set `weights` to where it is, or to embedded"
            )
    network = _network(path, path.stat().st_mtime_ns, str(device))
    if shape[0] != network.channels:
        raise UserError(
            f"the blur network {path} takes images of {network.channels} channels, got {shape[0]}"
        )
    dimensions = (network.kernel_dim, *code_size(network, shape))
    if isinstance(kernel, Path):
        code = _read_code(kernel, dimensions)
    elif kernel == "random":
        code = kernel_scale * np.random.default_rng(seed).standard_normal(dimensions)
    else:  # the published code, drawn alike for images of any size
        code = kernel_scale * np.random.RandomState(0).standard_normal(dimensions)
    return NonlinearBlur(shape, noise, network, torch.from_numpy(code)[None].to(device).float())


@lru_cache(maxsize=1)
def _network(path: Path, modified: int, device: str) -> CodedBlur:
    """Return the network of a file, which images with a code of their own share."""
    return load_blur(path).to(device)


def _read_code(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """Read a code of the given dimensions, or one vector for the whole image."""
    code = read_map(path, "kernel", "code")
    code = code[0] if code.ndim == 4 and len(code) == 1 else code
    if code.shape not in (dimensions, (dimensions[0],), (dimensions[0], 1, 1)):
        raise UserError(
            f"the kernel code {path} has the shape {code.shape}; allowed for these images and weights: "
            f"{dimensions}, or {dimensions[:1]} for the same blur everywhere"
        )
    return np.broadcast_to(code.reshape(dimensions[0], -1, 1) if code.ndim == 1 else code, dimensions).copy()


def _border(side: int, network: CodedBlur) -> Border:
    """Return the margin and how many pixels an axis lacks to a multiple of the stride, half of them on each side."""
    lacking = -side % network.stride
    return network.margin + lacking // 2, network.margin + lacking - lacking // 2
