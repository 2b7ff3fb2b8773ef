r"""The U-Net of guided diffusion ("ADM"), state-dict compatible with its published checkpoints.

    e = W_2 silu(W_1 [cos(t f), sin(t f)]) (+ class embedding),         f_k = 10000^(-k / half)
    residual block   x -> S x + conv(silu(N(conv(R silu(N(x))), e)))    R halves, doubles or keeps the resolution
    N(h, e)          = (1 + s(e)) GroupNorm(h) + b(e)                   scale-shift, or GroupNorm(h + b(e))
    attention        x -> x + P softmax(q^T k / sqrt(d)) v,             q, k, v = W GroupNorm(x)

The way down keeps every activation; the way up takes them back, last first, joined by channels.

How it is made fast. Activations are channels-last, so a convolution reorders nothing and attention reads q, k, v as
views of one product. Scale and shift are folded into the weights of the group norm. `convolution` saves products.
Without gradients, a block overwrites what it alone owns, because a fresh large tensor costs more on a CPU than the
arithmetic done on it.

Source: Dhariwal and Nichol, arXiv 2105.05233; Nichol and Dhariwal, arXiv 2102.09672.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolution import add_projection, convolve, double_and_convolve

GROUPS = 32
MULTIPLIERS: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one network of the family from another; names are those of the published flags.

    Attributes:
        image_size: side of the images; gives `attention_resolutions` their meaning.
        num_channels: base width.
        num_res_blocks: residual blocks at each resolution on the way down (one more on the way up).
        channel_mult: width at each resolution over the base width; () takes the published one of the image size.
        attention_resolutions: sides of the feature maps that get attention, such as 32, 16 and 8.
        num_heads: attention heads, where `num_head_channels` is -1.
        num_head_channels: channels of a head; -1 leaves it to `num_heads`.
        num_heads_upsample: heads on the way up; -1 for the same number.
        use_new_attention_order: q, k, v split before the heads, not after.
        use_scale_shift_norm: the embedding scales and shifts the normalised activation; else it is added before.
        resblock_updown: residual blocks change the resolution; else plain layers do.
        conv_resample: those plain layers convolve.
        learn_sigma: the output has a second half, for the variance of the reverse process.
        num_classes: size of the class embedding; 0 for none.
        in_channels: channels of the images.
        dropout: probability, used in training only.
    """

    image_size: int = 256
    num_channels: int = 128
    num_res_blocks: int = 2
    channel_mult: tuple[float, ...] = ()
    attention_resolutions: tuple[int, ...] = (16, 8)
    num_heads: int = 4
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_new_attention_order: bool = False
    use_scale_shift_norm: bool = True
    resblock_updown: bool = False
    conv_resample: bool = True
    learn_sigma: bool = False
    num_classes: int = 0
    in_channels: int = 3
    dropout: float = 0.0

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, finest first."""
        mult = self.channel_mult or MULTIPLIERS.get(self.image_size, ())
        if not mult:
            raise ValueError(f"channel_mult must be given for image_size {self.image_size}")
        return tuple(int(m * self.num_channels) for m in mult)

    def attends(self, level: int) -> bool:
        """Whether residual blocks at this resolution are followed by attention."""
        return self.image_size >> level in self.attention_resolutions

    def heads(self, channels: int, *, up: bool = False) -> int:
        """Number of attention heads for a feature map."""
        if self.num_head_channels != -1:
            return max(1, channels // self.num_head_channels)
        return self.num_heads_upsample if up and self.num_heads_upsample != -1 else self.num_heads


def normalise(
    x: Tensor, norm: nn.GroupNorm, modulation: Tensor | None = None, *, silu: bool = True
) -> Tensor:
    """Group norm, scale and shift, SiLU.

    Args:
        x: [B, C, H, W].
        norm: statistics are taken in float32 whatever the type of x.
        modulation: scale and shift, [B or 1, 2 C].
        silu: whether the SiLU follows.
    """
    weight, bias = norm.weight[None], norm.bias[None]
    if modulation is not None:
        scale, shift = modulation.chunk(2, dim=1)
        weight, bias = torch.addcmul(weight, weight, scale), torch.addcmul(bias, bias, scale) + shift
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    gradient = torch.is_grad_enabled()
    if len(weight) == 1:
        y = functional.group_norm(x, norm.num_groups, weight[0], bias[0], norm.eps)
    else:
        y = functional.group_norm(x, norm.num_groups, eps=norm.eps)
        weight, bias = weight[:, :, None, None], bias[:, :, None, None]
        y = torch.addcmul(bias, y, weight) if gradient else y.mul_(weight).add_(bias)
    return functional.silu(y, inplace=not gradient) if silu else y


def accumulate(a: Tensor, b: Tensor) -> Tensor:
    """a + b, in the place of a where no gradient needs it."""
    return a + b if torch.is_grad_enabled() else a.add_(b)


class ResBlock(nn.Module):
    """Residual block; `resample` is +1 to double the resolution, -1 to halve it, 0 to keep it."""

    def __init__(self, arch: Architecture, channels: int, out_channels: int, resample: int = 0) -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = arch.use_scale_shift_norm
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * arch.num_channels, out_channels * (2 if self.scale_shift else 1))
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
            nn.Dropout(arch.dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        keeps = channels == out_channels
        self.skip_connection = nn.Identity() if keeps else nn.Conv2d(channels, out_channels, 1)

    def forward(self, parts: list[Tensor], e: Tensor) -> Tensor:
        """Apply the block to `parts` joined by channels, which it takes out of the list so that they can be freed.

        Args:
            parts: tensors [B, C_i, H, W]; emptied.
            e: SiLU of the embedding, [B or 1, 4 num_channels].
        """
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        parts.clear()
        conv = cast(nn.Conv2d, self.in_layers[2])
        h = normalise(x, cast(nn.GroupNorm, self.in_layers[0]))
        if self.resample > 0:
            h = double_and_convolve(h, conv)
        else:
            h = convolve(functional.avg_pool2d(h, 2) if self.resample < 0 else h, conv)
        modulation = self.emb_layers[1](e)
        norm = cast(nn.GroupNorm, self.out_layers[0])
        if self.scale_shift:
            h = normalise(h, norm, modulation)
        else:
            h = normalise(accumulate(h, modulation[:, :, None, None].to(h.dtype)), norm)
        h = convolve(self.out_layers[2](h), cast(nn.Conv2d, self.out_layers[3]))
        if isinstance(self.skip_connection, nn.Conv2d):
            return add_projection(h, x, self.skip_connection)
        if self.resample > 0 and torch.is_grad_enabled():
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        elif self.resample > 0:
            batch, channels, height, width = x.shape
            h.view(batch, channels, height, 2, width, 2).add_(x[:, :, :, None, :, None])
            return h
        return accumulate(h, functional.avg_pool2d(x, 2) if self.resample < 0 else x)


class AttentionBlock(nn.Module):
    """Self-attention over all places of a feature map."""

    def __init__(self, channels: int, heads: int, new_order: bool) -> None:
        super().__init__()
        self.heads = heads
        self.new_order = new_order
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        batch, channels, height, width = x.shape
        h = normalise(x, self.norm, silu=False).permute(0, 2, 3, 1).flatten(1, 2)
        h = functional.linear(h, self.qkv.weight.squeeze(2), self.qkv.bias)
        if self.new_order:
            q, k, v = h.view(batch, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = h.view(batch, -1, self.heads, 3, channels // self.heads).permute(3, 0, 2, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, channels)
        h = functional.linear(h, self.proj_out.weight.squeeze(2), self.proj_out.bias)
        return accumulate(h.view(batch, height, width, channels).permute(0, 3, 1, 2), x)


class Downsample(nn.Module):
    """Halve the resolution with a strided convolution, or by averaging."""

    def __init__(self, channels: int, convolve: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if convolve else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        return cast(Tensor, self.op(x))


class Upsample(nn.Module):
    """Double the resolution with nearest neighbours, and a convolution if asked for."""

    def __init__(self, channels: int, convolve: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if convolve else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2 H, 2 W]."""
        if self.conv is None:
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return double_and_convolve(x, self.conv)


class Stage(nn.ModuleList):
    """Layers one after the other; a residual block also gets the embedding."""

    def forward(self, parts: list[Tensor], e: Tensor) -> Tensor:
        """Apply the layers to `parts` joined by channels; the list is emptied."""
        for layer in self:
            parts.append(layer(parts, e) if isinstance(layer, ResBlock) else layer(parts.pop()))
        return parts.pop()


class ADM(nn.Module):
    """The network F(x, t): predicted noise (and, with `learn_sigma`, a second half that samplers here do not need).

    Args:
        arch: its architecture. Build it on the meta device and load weights with `assign=True`.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.dtype = torch.float32
        widths, width = arch.widths, 4 * arch.num_channels
        self.time_embed = nn.Sequential(
            nn.Linear(arch.num_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        if arch.num_classes:
            self.label_emb = nn.Embedding(arch.num_classes, width)
        ch = widths[0]
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(arch.in_channels, ch, 3, padding=1)])])
        skips = [ch]
        for level, out in enumerate(widths):
            for _ in range(arch.num_res_blocks):
                self.input_blocks.append(Stage(self._layers(level, ch, out)))
                ch = out
                skips.append(ch)
            if level + 1 < len(widths):
                updown = arch.resblock_updown
                down = ResBlock(arch, ch, ch, -1) if updown else Downsample(ch, arch.conv_resample)
                self.input_blocks.append(Stage([down]))
                skips.append(ch)
        middle = AttentionBlock(ch, arch.heads(ch), arch.use_new_attention_order)
        self.middle_block = Stage([ResBlock(arch, ch, ch), middle, ResBlock(arch, ch, ch)])
        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for i in range(arch.num_res_blocks + 1):
                layers = list(self._layers(level, ch + skips.pop(), out, up=True))
                ch = out
                if level and i == arch.num_res_blocks:
                    updown = arch.resblock_updown
                    layers.append(ResBlock(arch, ch, ch, 1) if updown else Upsample(ch, arch.conv_resample))
                self.output_blocks.append(Stage(layers))
        out_channels = arch.in_channels * (2 if arch.learn_sigma else 1)
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, ch), nn.SiLU(), nn.Conv2d(ch, out_channels, 3, padding=1)
        )

    def _layers(self, level: int, ch: int, out: int, *, up: bool = False) -> Iterator[nn.Module]:
        yield ResBlock(self.arch, ch, out)
        if self.arch.attends(level):
            yield AttentionBlock(out, self.arch.heads(out, up=up), self.arch.use_new_attention_order)

    def compute_in(self, dtype: torch.dtype) -> ADM:
        """Cast the convolutions and attention of the torso; embedding, norms' statistics and output stay float32."""
        self.dtype = dtype
        for stage in (*self.input_blocks, self.middle_block, *self.output_blocks):
            for module in stage.modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d):
                    module.to(dtype)
        return self

    def embed(self, t: Tensor) -> Tensor:
        """Sines and cosines of t [B] at geometric frequencies, [B, num_channels]."""
        half = self.arch.num_channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t[:, None].float() * torch.exp(-math.log(10000) / half * steps)
        pairs = torch.cat((angles.cos(), angles.sin()), dim=1)
        return functional.pad(pairs, (0, self.arch.num_channels - 2 * half))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise in x.

        Args:
            x: [B, C, H, W], scaled to unit variance; sides divisible by 2^(resolutions - 1).
            t: time step, 0 to 999, any real number; [B], or [1] for all alike, which is faster.
            label: class of each sample, [B] or [1]; needed exactly where the network has classes.

        Returns:
            [B, C, H, W], or [B, 2 C, H, W] with `learn_sigma`.
        """
        if (label is None) == bool(self.arch.num_classes):
            raise ValueError("a class label is needed exactly where the network has classes")
        e = self.time_embed(self.embed(t))
        if label is not None:
            e = e + self.label_emb(label)
        e = functional.silu(e)
        last = cast(nn.Conv2d, self.out[2])
        channels_last = last.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        parts = [x.to(self.dtype).contiguous(memory_format=layout)]
        skips: list[Tensor] = []
        for stage in self.input_blocks:
            skips.append(stage(parts, e))
            parts.append(skips[-1])
        parts.append(self.middle_block(parts, e))
        for stage in self.output_blocks:
            parts.append(skips.pop())
            parts.append(stage(parts, e))
        h = normalise(parts.pop().float(), cast(nn.GroupNorm, self.out[0]))
        return cast(Tensor, last(h)).contiguous()
