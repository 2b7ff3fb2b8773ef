"""What the operator of nonlinear blur asks of a network."""

from __future__ import annotations

import copy
from abc import abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["CodedBlur"]


class CodedBlur(nn.Module):
    """A network that blurs images on [0, 1] as a code says.

    Attributes:
        channels: of the images.
        kernel_dim: length of a vector of the code.
        stride: what the height and width of an image are multiples of.
        margin: pixels on each side that an image loses; a multiple of the stride.
    """

    channels: int
    kernel_dim: int
    stride: int
    margin: int = 0

    @abstractmethod
    def forward(self, u: Tensor, code: Tensor) -> Tensor:
        """Return the blurred images, not clipped, [B, C, H - 2 margin, W - 2 margin].

        Args:
            u: images on [0, 1], [B, C, H, W].
            code: [1 or B, kernel_dim, *code_size(H - 2 margin, W - 2 margin)].
        """

    @abstractmethod
    def code_size(self, height: int, width: int) -> tuple[int, int]:
        """Return how many code vectors an image of any size has, down and across."""

    def like(self, x: Tensor) -> CodedBlur:
        """Return the network in the precision of `x`: itself, or a copy that is made once."""
        if x.dtype == next(self.parameters()).dtype:
            return self
        copies: dict[torch.dtype, CodedBlur] = self.__dict__.setdefault("_in_precision", {})
        if x.dtype not in copies:
            alike = copy.deepcopy(self)
            alike.__dict__.pop("_in_precision")
            copies[x.dtype] = alike.to(x.dtype)
        return copies[x.dtype]
