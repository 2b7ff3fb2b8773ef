"""The calibration of a prior, as `daps-kit calibrate` makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from daps_kit.calibration import SIGMAS, calibrate, write_calibration
from daps_kit.contracts import Prior, RandomStreams
from daps_kit.errors import UserError
from daps_kit.fit_head import Fit, HeadFit, fit_head, measured
from daps_kit.recipe.data import ImagesData

from .choice import PriorChoice
from .known_images import load_for
from .report import build_choice

__all__ = ["measure_prior"]

LEAST = 8
"""Images that a head is fitted to at least."""


def measure_prior(
    choice: PriorChoice,
    images: str | None,
    *,
    count: int,
    draws: int,
    chunk: int,
    output: Path,
    tell: Callable[[str], None],
    head: Fit | None = None,
    watch: Callable[[HeadFit], None] = lambda work: None,
) -> str:
    """Measure a prior, write the file, and return in words what it was measured on.

    Args:
        choice: the prior.
        images: a folder or glob; None for the images of the recipe or the prior's own samples.
        count: how many.
        draws: of noise for each.
        chunk: images in a network call.
        output: the file.
        tell: told what is found.
        head: how a head is fitted that tells how errors differ from place to place; None: it is not.
        watch: shown that fit after each step.

    Raises:
        UserError: the prior cannot be built, an image cannot be used, or the file cannot be written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = build_choice(choice, device)
    files = _files(images) if images is not None else choice.files
    with torch.no_grad():
        x0, said = _images(prior, files, count, device) if files else _own(prior, count, chunk, device)
    low, high = prior.sigma_range
    levels = [sigma for sigma in SIGMAS if low <= sigma <= high]
    if len(levels) < 2:
        raise UserError(f"the prior knows noise levels from {low:g} to {high:g} alone: too few to calibrate")
    found = calibrate(
        prior.denoise,
        x0,
        sigmas=levels,
        draws=draws,
        chunk=chunk,
        tell=lambda sigma, mse: tell(f"sigma {sigma:g}  mean squared error {mse:.3g}"),
    )
    if not bool(torch.isfinite(found.mse).all()):
        raise UserError("the denoiser gave NaN; `daps-kit check-prior` says more")
    if head is None:
        write_calibration(output, found)
        return said
    if len(x0) < LEAST:
        raise UserError(f"a head is fitted to at least {LEAST} images, better to 500; there are {len(x0)}")
    prior.calibration = found
    state = output.with_name(f"{output.name}.fit")
    others = torch.arange(len(x0)) % 4 == 3
    local = measured(
        prior,
        fit_head(prior, x0[~others], head, state, tell=tell, watch=watch),
        x0[others],
        chunk=head.chunk,
        tell=lambda sigma, gain: tell(
            f"sigma {sigma:g}  {gain:.3f} nats a number better, on images held out"
        ),
    )
    write_calibration(output, replace(found, local=local))
    state.unlink(missing_ok=True)
    return f"{said}, a head fitted to three quarters of them"


def _files(images: str) -> list[Path]:
    try:
        return ImagesData.model_validate({"path": images}).files
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _images(prior: Prior, files: Sequence[Path], count: int, device: torch.device) -> tuple[Tensor, str]:
    """Return images of the prior's shape in its (latent) space, spread over the files."""
    if len(files) < 2:
        raise UserError(f"a calibration needs at least 2 images, better 16 or more; there is {len(files)}")
    stride = max(1, len(files) // count)
    chosen = list(files)[::stride][:count]
    latents = [prior.encode(image.to(device)) for image in torch.split(load_for(prior, chosen), 1)]
    return torch.cat(latents), f"{len(chosen)} images"


def _own(prior: Prior, count: int, chunk: int, device: torch.device) -> tuple[Tensor, str]:
    """Return samples of the prior."""
    if prior.shape is None:
        raise UserError("the prior takes images of any size: give --images, whose size is taken")
    shape = prior.state_shape(prior.shape)
    parts = [
        prior.sample(shape, RandomStreams(range(first, min(first + chunk, count)), device))
        for first in range(0, count, chunk)
    ]
    return torch.cat(parts), f"{count} samples of its own"
