r"""The U-Net of latent diffusion, state-dict compatible with its published checkpoints.

It is the guided-diffusion U-Net (`adm`), in which attention may also look at a condition c, a short list of vectors:

    transformer block   x <- x + A(N x, N x),   x <- x + A(N x, c),   x <- x + W_2 (a gelu(b)),   [a, b] = W_1 N x
    A(x, c) = W_o softmax(q k^T / sqrt(d)) v,   q = W_q x,   k = W_k c,   v = W_v c,              N a layer norm

The condition of a prior never changes, so its keys and values are computed once, and not at every call.

Source: Rombach et al., arXiv 2112.10752.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .adm import ADM, GROUPS, Architecture, AttentionBlock, accumulate, normalise

__all__ = ["LatentUNet", "SpatialTransformer"]


class Attention(nn.Module):
    """Attention of places to places or, with a condition, of places to its vectors.

    Args:
        channels: of the places.
        context: of the condition's vectors; the same where places attend to places.
        heads: a divisor of `channels`.
    """

    keys: Tensor | None = None
    values: Tensor | None = None

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def condition(self, context: Tensor) -> None:
        """Compute the keys and values of n conditions [n, L, D], once and for all."""
        self.keys, self.values = self._split(self.to_k(context)), self._split(self.to_v(context))

    def _split(self, x: Tensor) -> Tensor:
        """[B, P, C] -> [B, heads, P, C / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n B, P, C] -> [n B, P, C]; the first B samples see the first condition, the next B the second."""
        if self.keys is None or self.values is None:
            keys, values = self._split(self.to_k(x)), self._split(self.to_v(x))
        else:
            times = len(x) // len(self.keys)
            keys, values = (part.repeat_interleave(times, dim=0) for part in (self.keys, self.values))
        out = functional.scaled_dot_product_attention(self._split(self.to_q(x)), keys, values)
        return cast(Tensor, self.to_out[0](out.transpose(1, 2).flatten(2)))


class GatedProjection(nn.Module):
    """a gelu(b) with [a, b] = W x."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., hidden]."""
        a, b = self.proj(x).chunk(2, dim=-1)
        return cast(Tensor, a * functional.gelu(b))


class FeedForward(nn.Module):
    """W_2 (a gelu(b)), four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.net = nn.Sequential(
            GatedProjection(channels, hidden), nn.Dropout(0.0), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return cast(Tensor, self.net(x))


class TransformerBlock(nn.Module):
    """Attention to places, attention to the condition, and a layer for each place by itself."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, context, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, C] -> [B, P, C]."""
        for layer, norm in ((self.attn1, self.norm1), (self.attn2, self.norm2), (self.ff, self.norm3)):
            x = accumulate(layer(norm(x.float()).to(x.dtype)), x)
        return x


class SpatialTransformer(nn.Module):
    """Transformer blocks over the places of a feature map, between two 1 x 1 convolutions, added to the map.

    Args:
        channels: of the map.
        context: of the condition's vectors.
        heads: a divisor of `channels`.
        depth: how many blocks.
    """

    def __init__(self, channels: int, context: int, heads: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, context, heads) for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        height, width = x.shape[2:]
        h = normalise(x, self.norm, silu=False).permute(0, 2, 3, 1).flatten(1, 2)
        h = functional.linear(h, self.proj_in.weight.flatten(1), self.proj_in.bias)
        for block in self.transformer_blocks:
            h = block(h)
        h = functional.linear(h, self.proj_out.weight.flatten(1), self.proj_out.bias)
        return accumulate(h.view(len(h), height, width, -1).permute(0, 3, 1, 2), x)


class LatentUNet(ADM):
    """The network F(z, t): predicted noise.

    Args:
        arch: its architecture, of latents: `image_size` is their side, `in_channels` are their channels.
        context: channels of the condition's vectors; 0 for a network without condition.
        depth: transformer blocks wherever there is attention.
    """

    def __init__(self, arch: Architecture, *, context: int = 0, depth: int = 1) -> None:
        super().__init__(arch)
        self.context = context
        if context:
            # In the places where the plain network has attention, transformers.
            for stage in (*self.input_blocks, self.middle_block, *self.output_blocks):
                for i, layer in enumerate(cast(nn.ModuleList, stage)):
                    if isinstance(layer, AttentionBlock):
                        channels = layer.norm.num_channels
                        cast(nn.ModuleList, stage)[i] = SpatialTransformer(
                            channels, context, layer.heads, depth
                        )

    def condition(self, context: Tensor) -> None:
        """Set what the network is conditioned on.

        Args:
            context: [n, L, D], n conditions of L vectors. Batches are then n B samples: the first B see the first
                condition, the next B the second, and so on.
        """
        if context.ndim != 3 or context.shape[2] != self.context:
            raise ValueError(f"a condition must be [n, L, {self.context}], got {list(context.shape)}")
        for module in self.modules():
            if isinstance(module, TransformerBlock):
                module.attn2.condition(context.to(module.attn2.to_k.weight))

    def compute_in(self, dtype: torch.dtype) -> LatentUNet:
        """Cast the torso, all but the statistics of its norms; before `condition`."""
        super().compute_in(dtype)
        for module in self.modules():
            if isinstance(module, SpatialTransformer):
                for part in module.modules():
                    if isinstance(part, nn.Linear):
                        part.to(dtype)
        return self
