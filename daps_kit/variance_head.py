r"""The covariance of x0 at the very x_t: a small head of the network tells where the denoiser is unsure.

The measured covariance (`daps_kit.calibration`) is a mean over images, and the same at every place. But edges are less
certain than flat places. With Q and P its colours and its variances in the cosine basis F, take

    C(x_t) = Q E^{1/2} F^T diag(R P) F E^{1/2} Q^T,    E = diag(exp f),

f, one number for each pixel and rotated colour, is what a few convolutions say of (x_t, D(x_t, sigma), sigma). It is
fitted to the errors e = x0 - D of a frozen denoiser, each number by itself: for the mean variance p of a colour, by

    (f + (Q^T e)^2 / (p exp f)) / 2,

its negative log-likelihood. R, by noise level, colour and frequency, makes the mean of C(x_t) over images the measured
covariance. Where f = 0 and R = 1 it is that itself; so a head that knows nothing, as at high noise levels, costs
nothing. It knows nothing of places but what it sees around them, and serves pictures of any size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from daps_kit.contracts import Covariance
from daps_kit.covariance import CosineCovariance, LocalCovariance
from daps_kit.linalg import per_sample
from daps_kit.spectrum_head import FREQUENCIES, SIGMA_RANGE, WIDER, SpectrumHead, shown
from daps_kit.tensor_file import DamagedFile

__all__ = [
    "HeadDescription",
    "LocalErrors",
    "VarianceHead",
    "packed",
    "ratios",
    "unpacked",
]

PREFIX, RATIO = "local.head.", "local.ratio"
"""Names of the tensors of a head in a file."""

FOLD = 2
LARGEST = 5.0
"""Bound on |f|: a factor of 150 in variance."""

RINGS_AN_OCTAVE = 2


class VarianceHead(nn.Module):
    """f(x_t, D, sigma): log of the local factor of the variance, of each pixel and rotated colour.

    It sees D, (x_t - D) / sigma and the roots of the slopes of D, folded 2 x 2 into channels.

    Args:
        channels: C of the images (latents).
        width: channels of its convolutions.
        dilations: of its residual 3 x 3 convolutions, in folded pixels.
    """

    def __init__(self, channels: int, width: int = 32, dilations: Sequence[int] = (1, 2, 4, 1)) -> None:
        super().__init__()
        self.channels, self.width, self.dilations = channels, width, tuple(dilations)
        self.embed = nn.Linear(2 * len(FREQUENCIES) + 1, width)
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * width) for _ in dilations)
        self.stem = nn.Conv2d(3 * channels * FOLD**2, width, 3, padding=1, padding_mode="replicate")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d, padding_mode="replicate") for d in dilations
        )
        self.out = nn.Conv2d(width, channels * FOLD**2, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """Return f, [B, C, H, W], within `LARGEST`.

        Args:
            x, denoised: x_t and D(x_t, sigma), [B, C, H, W].
            sigma: [B] or 0-d, positive.
        """
        height, width = x.shape[-2:]
        features = torch.cat((denoised, (x - denoised) / per_sample(sigma, x), _slopes(denoised)), dim=1)
        features = functional.pad(features, (0, width % FOLD, 0, height % FOLD), mode="replicate")
        level = sigma.to(x).expand(len(x)).clamp(*SIGMA_RANGE).log()[:, None]
        angles = level * level.new_tensor(FREQUENCIES)
        e = functional.silu(self.embed(torch.cat((level, angles.sin(), angles.cos()), dim=1)))
        h = self.stem(functional.pixel_unshuffle(features, FOLD))
        for modulate, convolution in zip(self.modulate, self.convolutions, strict=True):
            scale, shift = modulate(e)[:, :, None, None].chunk(2, dim=1)
            h = h + convolution(functional.silu(torch.addcmul(shift, h, 1 + scale)))
        f = functional.pixel_shuffle(self.out(functional.silu(h)), FOLD)[..., :height, :width]
        return LARGEST * torch.tanh(f / LARGEST)


def _slopes(x: Tensor) -> Tensor:
    """Return the root of the length of the gradient of images, [B, C, H, W]."""
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return (across.square() + down.square() + 1e-8).sqrt().sqrt()


@dataclass(frozen=True)
class LocalErrors:
    """A fitted head, and the spectrum that goes with it.

    Attributes:
        head: f, or log G (`daps_kit.spectrum_head`).
        sigma: noise levels, rising, [S].
        ratio: R by noise level, rotated colour and ring of frequencies, [S, C, R]: the constant first, then
            `RINGS_AN_OCTAVE` rings an octave.
        lowest: frequency of the second ring, cycles a pixel.
        images: how many images R is of.
    """

    head: VarianceHead | SpectrumHead
    sigma: Tensor
    ratio: Tensor
    lowest: float
    images: int

    def problem(self) -> str | None:
        """Return what makes these numbers no head, if anything."""
        if isinstance(self.head, SpectrumHead):
            bands = self.head.bands
            if len(bands) < 2 or any(b <= a for a, b in itertools.pairwise(bands)):
                return "the bands of its head must be two or more, and rise"
            if not bool((self.head.scale > 0).all()):
                return "the scale of its head must be positive"
        levels, channels = len(self.sigma), self.head.channels
        if self.ratio.ndim != 3 or self.ratio.shape[:2] != (levels, channels) or self.ratio.shape[2] < 3:
            return f"the spectrum of its head has the shape {list(self.ratio.shape)}"
        if levels < 2 or not bool((self.sigma.diff() > 0).all()) or not bool(self.sigma[0] > 0):
            return "the noise levels of its head must be positive and rise"
        if not bool((torch.isfinite(self.ratio) & (self.ratio > 0)).all()):
            return "the spectrum of its head must be positive and finite"
        return None

    def power(self, mean: CosineCovariance, sigma: float) -> Tensor:
        """Return R P, [C, H, W], for the mean covariance at this noise level."""
        level = min(max(sigma, float(self.sigma[0])), float(self.sigma[-1]))
        logs = self.sigma.log()
        after = int(torch.searchsorted(self.sigma, level).clamp(1, len(self.sigma) - 1))
        weight = (math.log(level) - logs[after - 1]) / (logs[after] - logs[after - 1])
        table = torch.lerp(self.ratio[after - 1].log(), self.ratio[after].log(), weight)
        place = _place(mean.power, self.lowest).clamp_max(table.shape[-1] - 1).to(table)
        inner = place.floor().long().clamp_max(table.shape[-1] - 2)
        return mean.power * torch.lerp(table[:, inner], table[:, inner + 1], place - inner).exp().to(
            mean.power
        )

    @torch.no_grad()
    def covariance(
        self, mean: Covariance, x: Tensor, denoised: Tensor, sigma: float
    ) -> LocalCovariance | CosineCovariance:
        """Return C(x_t) of each sample.

        Args:
            mean: the measured covariance at this noise level, of images of this size: a `CosineCovariance`.
            x, denoised: x_t and D(x_t, sigma), [B, C, H, W].
            sigma: the noise level.

        Raises:
            TypeError: the mean covariance is of another kind.
        """
        if not isinstance(mean, CosineCovariance):
            raise TypeError(f"a head goes with a CosineCovariance, not with {type(mean).__name__}")
        level, power = torch.tensor(sigma, device=x.device), self.power(mean, sigma)
        if isinstance(self.head, SpectrumHead):
            gain = self.head.gain(denoised.float(), mean.colours, level) * WIDER ** shown(level.log())
            power = power * gain.to(power)
            return CosineCovariance(power, mean.colours, average=mean.average)
        f = self.head(x.float(), denoised.float(), level)
        even = CosineCovariance(power, mean.colours, average=mean.average)
        return LocalCovariance(even, (f / 2).exp().to(x.dtype))


def _place(like: Tensor, lowest: float) -> Tensor:
    """Return where the frequencies of the cosine basis of [..., H, W] lie among the rings, [H, W]."""
    down, across = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in like.shape[-2:])
    f = (down[:, None].square() + across.square()).sqrt()
    place = 1 + RINGS_AN_OCTAVE * (f / lowest).clamp_min(1).log2()
    place[0, 0] = 0
    return place


def ratios(z: Tensor, lowest: float) -> Tensor:
    """Return the mean power by colour and ring, [C, R]; empty rings have that of the one before.

    Args:
        z: [N, C, H, W], in the cosine basis.
        lowest: frequency of the second ring, cycles a pixel.
    """
    ring = _place(z, lowest).round().long().flatten()
    count = int(ring.max()) + 1
    power = z.double().square().mean(0).flatten(1)
    total = torch.zeros(len(power), count, dtype=torch.float64).index_add_(1, ring, power.cpu())
    number = torch.zeros(count, dtype=torch.float64).index_add_(
        0, ring, torch.ones(len(ring), dtype=torch.float64)
    )
    nearest = torch.where(number > 0, torch.arange(count), 0).cummax(0).values
    return (total / number.clamp_min(1))[:, nearest].float()


class HeadDescription(BaseModel, extra="forbid"):
    """What a file of weights or a calibration says of its head, beside the tensors: `bands` where it tells spectra."""

    width: int = Field(ge=1, le=4096)
    dilations: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((), max_length=64)
    bands: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((), max_length=64)
    sigma: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=2)
    lowest: float = Field(gt=0, lt=1)
    images: int = Field(ge=1)


def packed(local: LocalErrors | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a head in half precision and what a file says of it; both empty where there is none."""
    if local is None:
        return {}, {}
    tensors = {f"{PREFIX}{name}": tensor.half() for name, tensor in local.head.state_dict().items()}
    said = {
        "width": local.head.width,
        **(
            {"bands": list(local.head.bands)}
            if isinstance(local.head, SpectrumHead)
            else {"dilations": list(local.head.dilations)}
        ),
        "sigma": [float(f"{sigma:.6g}") for sigma in local.sigma.tolist()],
        "lowest": local.lowest,
        "images": local.images,
    }
    return tensors | {RATIO: local.ratio.contiguous()}, {"head": said}


def unpacked(
    tensors: dict[str, Tensor], said: HeadDescription | None, channels: int, path: Path
) -> LocalErrors | None:
    """Take the head out of the tensors of a file and return it; None where the file says of none.

    Raises:
        UserError: the tensors are not those of such a head, or not finite.
    """
    if said is None:
        return None
    own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX) or name == RATIO}
    with torch.random.fork_rng(devices=[]):
        head: VarianceHead | SpectrumHead = (
            SpectrumHead(channels, said.width, said.bands)
            if said.bands
            else VarianceHead(channels, said.width, said.dilations)
        )
    try:
        ratio = own.pop(RATIO).float()
        head.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in own.items()})
    except (KeyError, RuntimeError) as error:
        raise DamagedFile(f"{path} is damaged: the tensors of its head are not those it says") from error
    local = LocalErrors(
        head.eval().requires_grad_(False), torch.tensor(said.sigma), ratio, said.lowest, said.images
    )
    problem = local.problem()
    if problem is None and not all(
        bool(torch.isfinite(tensor).all()) for tensor in head.state_dict().values()
    ):
        problem = "the weights of its head are not finite numbers"
    if problem is not None:
        raise DamagedFile(f"{path} is damaged: {problem}")
    return local
