r"""The network behind nonlinear blur: it blurs an image by a kernel that lives in a learnt space of blurs.

For an image u on [0, 1] and a kernel code k, the blurred image is

    u + R(G(E(u), k))

E, features at a quarter of the resolution: three convolutions (strides 1, 2, 2) and residual blocks.
G, a U-Net of L strided levels without normalisation; the code joins its coarsest features:
    h_0 = E(u),  h_{l+1} = conv(lrelu h_l),  v_L = k,  v_l = deconv(relu [v_{l+1}, h_{l+1}]),  G = tanh v_0.
R, residual blocks, two pixel shuffles back to the full resolution, and two convolutions.

So sides are multiples of 4 * 2^L (128 as published), and the code has one vector for each such square.
The names of parameters are those of the published weights; how large each part is, the weights themselves say.

Source: Tran et al., "Explore Image Deblurring via Encoded Blur Kernel Space", CVPR 2021, arXiv 2104.00317, where
codes come from an encoder that sees a sharp image and its blurred twin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from daps_kit.errors import UserError
from daps_kit.weights.tensors import load_into, read_tensors

from .coded_blur import CodedBlur

__all__ = ["BlurNetwork", "BlurNetworkConfig", "config_of", "load_blur_network"]

ENCODER_PREFIX = "kernel_extractor."
"""Parameters of the encoder, which finds the code of a pair of images; blurring does without them."""


@dataclass(frozen=True)
class BlurNetworkConfig:
    """The sizes of a blur network; the published ones are the defaults.

    Attributes:
        channels: of the images.
        width: channels of the features.
        front_blocks, back_blocks: residual blocks before and after the U-Net.
        levels: channels of each level of the U-Net.
        kernel_dim: length of a vector of the kernel code.
        tail: channels at the full resolution.
    """

    channels: int = 3
    width: int = 64
    front_blocks: int = 10
    back_blocks: int = 20
    levels: tuple[int, ...] = (64, 128, 256, 512, 512)
    kernel_dim: int = 512
    tail: int = 64

    @property
    def stride(self) -> int:
        """What the height and width of an image are multiples of, and the side of the square of a code vector."""
        return int(4 * 2 ** len(self.levels))


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [B, width, h, w]."""
        change: Tensor = self.conv2(self.conv1(x).relu_())
        return change.add_(x)


class AdapterLevel(nn.Module):
    """One level of the U-Net with all that lies below it: (h_l, k) -> v_l.

    Args:
        outer: channels of h_l and v_l.
        levels: channels of this level and of the ones below.
        kernel_dim: channels of the code.
        outermost: whether this is level 0.
    """

    def __init__(self, outer: int, levels: Sequence[int], kernel_dim: int, outermost: bool = False) -> None:
        super().__init__()
        inner, below = levels[0], levels[1:]
        down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
        self.down = nn.Sequential(down) if outermost else nn.Sequential(nn.LeakyReLU(0.2, inplace=True), down)
        self.submodule = AdapterLevel(inner, below, kernel_dim) if below else None
        joined = inner + (inner if below else kernel_dim)
        up = nn.ConvTranspose2d(joined, outer, 4, stride=2, padding=1, bias=outermost)
        self.up = nn.Sequential(nn.ReLU(inplace=True), up)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """Return v_l, [B, outer, h, w]; h is overwritten by lrelu(h), which leaves its relu as it is."""
        inner = self.down(h)
        parts = [inner, code] if self.submodule is None else [self.submodule(inner, code), inner]
        v: Tensor = self.up(torch.cat(parts, 1))
        return v


class Adapter(nn.Module):
    """G: the features as the blur leaves them."""

    def __init__(self, config: BlurNetworkConfig) -> None:
        super().__init__()
        self.model = AdapterLevel(config.width, config.levels, config.kernel_dim, outermost=True)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """Return adapted features, [B, width, h, w]."""
        return self.model(features, code).tanh_()  # type: ignore[no-any-return]


class BlurNetwork(CodedBlur):
    """Blur images on [0, 1] by a kernel code.

    Args:
        config: the sizes.
    """

    def __init__(self, config: BlurNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.kernel_dim, self.stride = config.channels, config.kernel_dim, config.stride
        width, tail = config.width, config.tail

        def activation() -> nn.Module:
            return nn.LeakyReLU(0.1, inplace=True)

        self.feature_extractor = nn.Sequential(
            nn.Conv2d(config.channels, width, 3, padding=1),
            activation(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            activation(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            activation(),
            *(ResidualBlock(width) for _ in range(config.front_blocks)),
        )
        self.adapter = Adapter(config)
        self.recon_trunk = nn.Sequential(
            *(ResidualBlock(width) for _ in range(config.back_blocks)),
            nn.Conv2d(width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            activation(),
            nn.Conv2d(width, 4 * tail, 3, padding=1),
            nn.PixelShuffle(2),
            activation(),
            nn.Conv2d(tail, tail, 3, padding=1),
            activation(),
            nn.Conv2d(tail, config.channels, 3, padding=1),
        )

    def forward(self, u: Tensor, code: Tensor) -> Tensor:
        """Return the blurred images, not clipped, [B, C, H, W].

        Args:
            u: images on [0, 1]; H and W are multiples of `config.stride`.
            code: kernel codes [1 or B, kernel_dim, H / stride, W / stride].
        """
        features = self.feature_extractor(u)
        adapted = self.adapter(features, code.expand(len(u), -1, -1, -1))
        return self.recon_trunk(adapted).add_(u)  # type: ignore[no-any-return]

    def code_size(self, height: int, width: int) -> tuple[int, int]:
        """Return how many squares of the stride cover the image, down and across."""
        return -(-height // self.stride), -(-width // self.stride)


def config_of(tensors: Mapping[str, Tensor]) -> BlurNetworkConfig:
    """Read the sizes of a network off its parameters.

    Raises:
        KeyError: a parameter that tells a size is missing.
    """

    def last_index(part: str) -> int:
        found = [re.match(rf"{part}\.(\d+)\.", name) for name in tensors]
        return max((int(match[1]) for match in found if match), default=-1)

    prefixes = ["adapter.model."]
    while any(name.startswith(prefixes[-1] + "submodule.") for name in tensors):
        prefixes.append(prefixes[-1] + "submodule.")
    downs = [tensors[f"{prefix}down.{min(level, 1)}.weight"] for level, prefix in enumerate(prefixes)]
    last = last_index("recon_trunk")
    width, channels = tensors["feature_extractor.0.weight"].shape[:2]
    levels = tuple(down.shape[0] for down in downs)
    return BlurNetworkConfig(
        channels=channels,
        width=width,
        front_blocks=last_index("feature_extractor") - 5,
        back_blocks=last - 8,
        levels=levels,
        kernel_dim=tensors[f"{prefixes[-1]}up.1.weight"].shape[0] - levels[-1],
        tail=tensors[f"recon_trunk.{last}.weight"].shape[1],
    )


def load_blur_network(path: Path) -> BlurNetwork:
    """Load a network from .pth or .safetensors weights: float32, frozen, on the CPU.

    Raises:
        UserError: the file cannot be read, or its parameters are not those of a blur network.
    """
    found = read_tensors(path)
    tensors = {name: tensor for name, tensor in found.items() if not name.startswith(ENCODER_PREFIX)}
    try:
        config = config_of(tensors)
    except (KeyError, IndexError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} has no weights of a bkse blur network: {reason}") from error
    with torch.device("meta"):  # the weights come from the file, so none are drawn
        network = BlurNetwork(config)
    load_into(network, tensors, path)
    return network.requires_grad_(False).eval()
