"""The fit of a head to a frozen denoiser: one of places (`variance_head`), or one of spectra (`spectrum_head`)."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daps_kit import tensor_file
from daps_kit.contracts import Prior
from daps_kit.covariance import CosineCovariance, cosine_inverse, cosine_transform, turned
from daps_kit.errors import UserError
from daps_kit.linalg import per_sample
from daps_kit.spectrum_head import SIGMA_RANGE, SpectrumHead, by_band
from daps_kit.variance_head import LocalErrors, VarianceHead, ratios

__all__ = ["Fit", "HeadFit", "SpectrumFit", "fit_head", "fit_spectrum", "measured"]

SIGMAS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.25, 0.4, 0.7, 1.2, 2.0, 4.0, 8.0, 12.0)
"""Noise levels at which the spectrum is measured."""

DRAWS, ROUNDS = 4, 5
"""Draws of each image for the spectrum, and how often it is corrected."""

EVERY = 60.0
"""Seconds between two states of a fit on the disk."""

STEADY = 0.3
"""Standard deviation of a log power below which it is all but the same in all pictures."""


@dataclass(frozen=True)
class Fit:
    """How a head is fitted.

    Attributes:
        steps: of Adam.
        batch: images in each.
        rate: the largest learning rate; it rises over a twentieth of the steps and falls to zero as a cosine.
        chunk: images in a network call.
        seed: of images, noise and first weights.
    """

    steps: int = 600
    batch: int = 16
    rate: float = 2e-3
    chunk: int = 16
    seed: int = 0


class HeadFit:
    """A head and how far its fit has come; each step draws from a generator of its own, so that a fit may be resumed.

    Args:
        prior: its `denoising_covariance` must be one of the cosine basis at the size of the images.
        images: clean images (latents), [N, C, H, W]; the fit takes random ones, mirrored or not.
        fit: see `Fit`.
        mirror: whether half of the images are mirrored left to right.

    Attributes:
        step: how many are taken.
    """

    def __init__(self, prior: Prior, images: Tensor, fit: Fit, *, mirror: bool = True) -> None:
        self.prior, self.images, self.fit, self.mirror = prior, images, fit, mirror
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fit.seed)
            self.head = VarianceHead(images.shape[1]).to(images.device)
        self.optimiser = torch.optim.Adam(self.head.parameters(), fit.rate, betas=(0.9, 0.98))
        low, high = prior.sigma_range
        self.low, self.high = max(low, SIGMA_RANGE[0]), min(high, SIGMA_RANGE[1])
        self.step = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        done = self.step / self.fit.steps
        return self.fit.rate * min(1.0, 20 * (done + 1 / self.fit.steps)) * (1 + math.cos(math.pi * done)) / 2

    def take_step(self) -> float:
        """Take one step and return by how much the error's likelihood exceeds the mean covariance's, nats a number."""
        fit, draw = self.fit, torch.Generator().manual_seed(self.fit.seed * 1_000_003 + self.step)
        place = torch.randint(len(self.images), (fit.batch,), generator=draw)
        x0 = self.images[place]
        if self.mirror:
            turned = torch.rand(fit.batch, generator=draw) < 0.5
            x0 = torch.where(turned.to(x0.device)[:, None, None, None], x0.flip(-1), x0)
        u = torch.rand(fit.batch, generator=draw)
        sigma = self.low * (self.high / self.low) ** u
        x = x0 + per_sample(sigma, x0) * torch.randn(x0.shape, generator=draw).to(x0)
        with torch.no_grad():
            parts = zip(torch.split(x, fit.chunk), torch.split(sigma.to(x), fit.chunk), strict=True)
            denoised = torch.cat([self.prior.denoise(a, b) for a, b in parts])
        means = [_mean(self.prior, x, level) for level in sigma.tolist()]
        gain = _gain(means, x0 - denoised, self.head(x, denoised, sigma.to(x)))
        self.optimiser.zero_grad()
        torch.autograd.backward(-gain)
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.optimiser.step()
        self.step += 1
        return float(gain.detach())

    def state(self) -> dict[str, Tensor]:
        """Return all that the next step depends on."""
        tensors = {f"head.{name}": tensor.detach() for name, tensor in self.head.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": moments[name] for name in ("step", "exp_avg", "exp_avg_sq")}
        return tensors | {"step": torch.tensor(self.step)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError, RuntimeError, ValueError: it is of another fit.
        """
        self.step = int(tensors["step"])
        named = {name: tensors[f"head.{name}"] for name in self.head.state_dict()}
        self.head.load_state_dict(named)
        if self.step:
            groups = self.optimiser.state_dict()["param_groups"]
            moments = {
                number: {name: tensors[f"adam.{number}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
                for number in groups[0]["params"]
            }
            self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def fit_head(
    prior: Prior,
    images: Tensor,
    fit: Fit,
    state: Path,
    *,
    tell: Callable[[str], None] = lambda text: None,
    watch: Callable[[HeadFit], None] = lambda work: None,
) -> VarianceHead:
    """Fit a head to images; `measured` then finds its spectrum, best on others.

    What it has come to is kept in a file while it goes on, from which the same call continues.

    Args:
        prior: its `denoising_covariance` must be one of the cosine basis.
        images: clean images (latents), [N, C, H, W].
        fit: see `Fit`.
        state: the file.
        tell: told what the head gains.
        watch: shown the fit after each step.

    Raises:
        UserError: the file is damaged or of another fit, or it cannot be written.
    """
    work = HeadFit(prior, images, fit, mirror=not prior.latent)
    said = {"kind": FitDescription.KIND, "format": 1, "fit": asdict(fit), "images": _checksum(images)}
    if state.exists():
        tensors, found = tensor_file.read(state)
        before = FitDescription.of(found, state)
        if (before.fit, before.images) != (said["fit"], said["images"]):
            raise UserError(
                f"{state} is of another fit: delete it, or give the images and steps it was begun with"
            )
        try:
            work.load(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise tensor_file.DamagedFile(f"{state} is damaged: {error}") from error
        tell(f"going on from step {work.step} of {fit.steps}")
    saved, gains = time.monotonic(), []
    while work.step < fit.steps:
        gains.append(work.take_step())
        watch(work)
        if work.step % max(1, fit.steps // 10) == 0:
            gain = sum(gains) / len(gains)
            tell(
                f"step {work.step} of {fit.steps}: the head explains the error by {gain:.3f} nats a number better"
            )
            gains.clear()
        if time.monotonic() - saved > EVERY:
            tensor_file.write(state, work.state(), said)
            saved = time.monotonic()
    tensor_file.write(state, work.state(), said)
    return work.head


@dataclass(frozen=True)
class SpectrumFit:
    """How a head is fitted.

    Attributes:
        steps: of Adam, after all errors are known.
        batch: errors in each.
        rate: the largest learning rate; it falls to zero as a cosine.
        even: weight of all bands alike, beside that of the numbers in each.
        seed: of noise, noise levels and first weights.
    """

    steps: int = 3000
    batch: int = 128
    rate: float = 3e-3
    even: float = 1.0
    seed: int = 0


def fit_spectrum(
    prior: Prior,
    pictures: Iterable[Tensor],
    fit: SpectrumFit = SpectrumFit(),
    *,
    watch: Callable[[int], None] = lambda done: None,
) -> SpectrumHead:
    """Fit a head to the errors of a frozen denoiser, one draw of noise and of its level for each picture.

    Args:
        prior: its `denoising_covariance` must be one of the cosine basis.
        pictures: clean, [n, C, H, W] each; a call of the network takes n, and the next may be of another size.
        fit: see `SpectrumFit`.
        watch: told how many pictures were denoised.
    """
    draw = torch.Generator().manual_seed(fit.seed)
    low, high = max(prior.sigma_range[0], SIGMA_RANGE[0]), min(prior.sigma_range[1], SIGMA_RANGE[1])
    head, told = None, []
    for x0 in pictures:
        if head is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(fit.seed)
                head = SpectrumHead(x0.shape[1]).to(x0.device)
        sigma = (low * (high / low) ** torch.rand(len(x0), generator=draw)).to(x0)
        x = x0 + per_sample(sigma, x0) * torch.randn(x0.shape, generator=draw).to(x0)
        with torch.no_grad():
            denoised = prior.denoise(x, sigma)
        means = [_mean(prior, x, level) for level in sigma.tolist()]
        power, colours = torch.stack([mean.power for mean in means]).to(x), means[0].colours
        error, count = by_band(_whitened(x0 - denoised, power, colours), head.bands)
        weight = count / count.sum() + fit.even * (count > 0) / (count > 0).sum()
        told.append((sigma, head.spectrum(denoised, colours), error, weight.expand(len(x0), -1)))
        watch(sum(len(each[0]) for each in told))
    assert head is not None
    sigma, spectrum, error, weight = (torch.cat(each) for each in zip(*told, strict=True))
    head.centre.copy_(spectrum.flatten(1).mean(0))
    head.scale.copy_(spectrum.flatten(1).std(0).clamp_min(STEADY))
    optimiser = torch.optim.AdamW(head.parameters(), fit.rate, weight_decay=1e-2)
    for step in range(fit.steps):
        some = torch.randint(len(sigma), (fit.batch,), generator=draw)
        log_g = head(spectrum[some], sigma[some])
        loss = ((error[some] * (-log_g).exp() + log_g) * weight[some, None]).sum(-1).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        for group in optimiser.param_groups:
            rise = min(1.0, 30 * (step + 1) / fit.steps)
            group["lr"] = fit.rate * rise * (1 + math.cos(math.pi * step / fit.steps)) / 2
        optimiser.step()
    return head.eval().requires_grad_(False)


class FitDescription(tensor_file.Description):
    """What the file of a fit that goes on says beside its tensors."""

    WHAT = "a head that is being fitted"
    KIND = "daps-kit head fit"

    fit: dict[str, Any]
    images: int


def _checksum(x0: Tensor) -> int:
    return zlib.crc32(x0.detach().float().cpu().contiguous().numpy().tobytes())


def _mean(prior: Prior, like: Tensor, sigma: float) -> CosineCovariance:
    mean = prior.mean_covariance(like, sigma)
    assert isinstance(mean, CosineCovariance)
    return mean


def _gain(means: Sequence[CosineCovariance], error: Tensor, f: Tensor) -> Tensor:
    """Return by how much f explains numbers better, each by itself, than their mean variance, nats a number.

    Args:
        means: the mean covariance of each sample.
        error: x0 - D, [B, C, H, W].
        f: likewise.
    """
    variance = torch.stack([mean.power.mean((1, 2), keepdim=True) for mean in means]).to(error)
    rotated = (means[0].colours.to(error).T @ error.flatten(2)).reshape(error.shape)
    square = rotated.square() / variance
    gain: Tensor = (square - square * (-f).exp() - f).mean() / 2
    return gain


def _whitened(error: Tensor, power: Tensor, colours: Tensor) -> Tensor:
    """Return the squares of an error in the cosine basis of rotated colours over their mean variances, [B, C, H, W]."""
    return cosine_transform(turned(error, colours.to(error).T)).square() / power.to(error)


def _spectral_gain(mean: CosineCovariance, error: Tensor, g: Tensor) -> float:
    """Return by how much G explains the error better than 1 does, nats a number."""
    square = _whitened(error, mean.power, mean.colours)
    return float((square - square / g - g.log()).mean() / 2)


@torch.no_grad()
def measured(
    prior: Prior,
    head: VarianceHead | SpectrumHead,
    images: Tensor,
    *,
    chunk: int = 16,
    tell: Callable[[float, float], None] = lambda sigma, gain: None,
) -> LocalErrors:
    """Return the head with the spectrum that makes the mean of C(x_t) over images the mean covariance.

    Args:
        prior: the prior that the head belongs to.
        head: the head.
        images: [N, C, H, W], better others than those that it was fitted to.
        chunk: images in a network call.
        tell: told each noise level and by how much the head explains a number better than its mean variance, nats.
    """
    low, high = max(prior.sigma_range[0], SIGMA_RANGE[0]), min(prior.sigma_range[1], SIGMA_RANGE[1])
    sigmas, lowest, rows = [s for s in SIGMAS if low <= s <= high], 1 / (2 * max(images.shape[-2:])), []
    for place, sigma in enumerate(sigmas):
        draw, mean = torch.Generator().manual_seed(place), _mean(prior, images, sigma)
        level = torch.tensor(sigma, device=images.device)
        x = images + sigma * torch.randn(images.shape, generator=draw).to(images)
        denoised = torch.cat([prior.denoise(part, level) for part in torch.split(x, chunk)])
        if isinstance(head, SpectrumHead):
            g = head.gain(denoised, mean.colours, level)
            tell(sigma, _spectral_gain(mean, images - denoised, g))
            rows.append(1 / ratios(g.sqrt(), lowest))
            continue
        f = head(x, denoised, level)
        tell(sigma, float(_gain([mean] * len(x), images - denoised, f)))
        noise = torch.randn(DRAWS, *images.shape, generator=draw).to(images)
        plain = ratios(noise.flatten(0, 1), lowest)
        ratio = torch.ones_like(plain)
        for _ in range(ROUNDS):
            one = LocalErrors(head, torch.tensor([sigma / 2, sigma]), torch.stack((ratio, ratio)), lowest, 1)
            power = one.power(mean, sigma).to(f).sqrt()
            drawn = cosine_transform((f / 2).exp() * cosine_inverse(noise * power)).flatten(0, 1)
            ratio = ratio * plain / ratios(drawn / mean.power.to(f).sqrt(), lowest)
        rows.append(ratio)
    return LocalErrors(head, torch.tensor(sigmas), torch.stack(rows), lowest, len(images))
