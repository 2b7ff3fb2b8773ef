r"""Is a prior what it should be? Known images are noised and denoised, and what comes out is compared.

    e^2(sigma) = mean over images and pixels of (D(x0 + sigma n, sigma) - x0)^2

is set against

    min(sigma^2, var x0)    leaving the noise, or returning a flat image: what random weights do at best
    the linear filter       the Wiener filter of a power-law spectrum fitted to these very images (`power_law.py`)
    the calibration         e^2 as it was measured when the weights were made, where the prior has one

The prior is also called in the ways that people get wrong (images in [0, 1], noise returned in place of the image,
the variance taken for sigma, ...); if one of them makes it better, that is the mistake.

A prior that draws from itself exactly has no weights that could be wrong: it is checked on its own draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from daps_kit.contracts import Prior
from daps_kit.errors import UserError

from .known_images import draws_exactly, known_images
from .power_law import PowerLaw

__all__ = ["Level", "Verdict", "examine", "judge", "require_sound"]

LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Noise levels of the whole check."""
QUICK = (0.2, 0.5, 1.0, 2.0)
"""Those before a run."""
MIDDLE = (0.2, 2.0)
"""Between them a denoiser has to know what images look like; below noise is easily seen, above little is."""
SLOW = 0.1
"""Seconds of a call beyond which the check before a run makes only one call."""
GAIN = 0.88
"""A mistake is named where calling the prior otherwise lowers its errors to this part of them."""

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Level:
    """Mean squared errors of a pixel at a noise level.

    Attributes:
        sigma: the noise level.
        mse: of the prior; NaN where its output is.
        trivial: of the better of two that know nothing, the noisy image and a flat one.
        linear: of the linear filter.
        stored: what the prior says of itself; None where it says nothing.
    """

    sigma: float
    mse: float
    trivial: float
    linear: float
    stored: float | None = None

    @property
    def middle(self) -> bool:
        """Whether the level tells most of a prior."""
        return MIDDLE[0] <= self.sigma <= MIDDLE[1]


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Attributes:
        levels: what was measured.
        problems: sentences that say what is wrong; none where nothing is.
        doubts: sentences about what may be.
    """

    levels: tuple[Level, ...]
    problems: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


_MISTAKES: dict[str, Callable[[Denoise, Tensor, float], Tensor]] = {
    "it works on images in [0, 1], but is given images in [-1, 1]": lambda d, x, s: (
        2 * d((x + 1) / 2, s / 2) - 1
    ),
    "it works on images in [0, 255], but is given images in [-1, 1]": lambda d, x, s: (
        d(127.5 * (x + 1), 127.5 * s) / 127.5 - 1
    ),
    "it takes the channels in the order blue, green, red": lambda d, x, s: d(x.flip(1), s).flip(1),
    "it returns the noise n, not the image": lambda d, x, s: x - s * d(x, s),
    "it returns sigma n, not the image": lambda d, x, s: x - d(x, s),
    "it returns the score, not the image": lambda d, x, s: x + s**2 * d(x, s),
    "it takes x_t / sqrt(1 + sigma^2), but is given x_t": lambda d, x, s: d(x / math.sqrt(1 + s**2), s),
    "it takes sigma^2 for the noise level, but is told sigma": lambda d, x, s: d(x, s**2),
}

_OF_IMAGES = frozenset(list(_MISTAKES)[:3])
"""Those that a prior over latents cannot make."""


@torch.no_grad()
def _errors(denoise: Denoise, x0: Tensor, sigma: float, *, chunk: int = 16) -> float:
    """Return the mean squared error of a pixel; the noise is the same at every call.

    Raises:
        UserError: what comes out has another shape.
    """
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)
    total = 0.0
    for clean, x in zip(torch.split(x0, chunk), torch.split(x0 + sigma * noise, chunk), strict=True):
        denoised = denoise(x, sigma)
        if denoised.shape != x.shape:
            raise UserError(
                f"the prior returns the shape {list(denoised.shape)} for noisy images of shape {list(x.shape)}"
            )
        total += float((denoised - clean).double().square().sum())
    return total / x0.numel()


def _measure(prior: Prior, x0: Tensor, linear: PowerLaw, sigma: float) -> Level:
    variance = float((x0 - x0.mean((0, 2, 3), keepdim=True)).double().square().mean())
    return Level(
        sigma,
        _errors(prior.denoise, x0, sigma),
        min(sigma**2, variance),
        _errors(linear.denoise, x0, sigma),
        _stored(prior, sigma),
    )


def _stored(prior: Prior, sigma: float) -> float | None:
    """Return the squared error in the prior's calibration, linear in the logarithms; None outside."""
    table = prior.calibration
    # In single precision the ends of a table may lie a little off.
    if table is None or not 0.999 * float(table.sigma[0]) <= sigma <= 1.001 * float(table.sigma[-1]):
        return None
    levels, errors = (np.log(np.asarray(values.tolist())) for values in (table.sigma, table.mse))
    return float(np.exp(np.interp(math.log(sigma), levels, errors)))


def examine(prior: Prior, x0: Tensor, sigmas: Sequence[float] = LEVELS) -> Verdict:
    """Check a prior on known images [N, C, H, W] (latents, for a latent prior).

    Raises:
        UserError: what the prior returns has another shape.
    """
    low, high = prior.sigma_range
    linear = PowerLaw(x0)
    levels = [_measure(prior, x0, linear, sigma) for sigma in sigmas if low <= sigma <= high]
    if not levels:
        raise UserError(
            f"the prior is said to be valid from sigma {low:g} to {high:g}: no level to check it at"
        )
    verdict = judge(prior, x0, levels, [levels[0], levels[len(levels) // 2], levels[-1]])
    if verdict.problems:
        return verdict
    problems, doubts = _limits(prior, x0)
    return Verdict(verdict.levels, tuple(problems), (*verdict.doubts, *doubts))


def judge(prior: Prior, x0: Tensor, levels: Sequence[Level], tried: Sequence[Level]) -> Verdict:
    """Say what is wrong with a prior that was measured on x0; mistakes are tried at some of the levels."""

    def verdict(*problems: str, doubts: Sequence[str] = ()) -> Verdict:
        return Verdict(tuple(levels), problems, tuple(doubts))

    lost = [level.sigma for level in levels if not math.isfinite(level.mse)]
    if lost:
        return verdict(f"it returns NaN or infinity at sigma {', '.join(f'{s:g}' for s in lost)}")
    mistake = None if draws_exactly(prior) else _mistake(prior, x0, tried)
    if mistake:
        return verdict(mistake)
    telling = [level for level in levels if level.middle] or levels
    if not draws_exactly(prior) and all(level.mse > 0.8 * level.trivial for level in telling):
        return verdict(
            "it denoises no better than leaving the noise or returning a flat image: its weights are random or "
            "belong to another network, or it knows nothing of such images"
        )
    worse = _mean_ratio([(level.mse, level.linear) for level in telling])
    known = [(level.mse, level.stored) for level in telling if level.stored is not None]
    beyond = _mean_ratio(known) if known else None
    compared = f"{worse:.1f} times the error of a linear filter"
    compared += f" and {beyond:.1f} times that of its calibration" if beyond else ""
    if min(level.mse / level.linear for level in telling) > 1.5 and (beyond is None or beyond > 3):
        return verdict(
            f"it denoises these images badly ({compared}): it was trained on quite other images, or its weights "
            "are damaged"
        )
    if worse > 1.05 or (beyond or 0) > 2:
        return verdict(doubts=[f"these images are unlike those it was trained on ({compared})"])
    return verdict()


def _mean_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the geometric mean of the ratios."""
    tiny = 1e-12
    return math.exp(sum(math.log((a + tiny) / (b + tiny)) for a, b in pairs) / len(pairs))


def _mistake(prior: Prior, x0: Tensor, levels: Sequence[Level]) -> str | None:
    """Return the mistake that explains the prior's errors, if there is one."""
    found: dict[str, float] = {}
    if not levels:
        return None
    for name, call in _MISTAKES.items():
        if prior.latent and name in _OF_IMAGES:
            continue
        try:
            errors = [_errors(partial(call, prior.denoise), x0, level.sigma) for level in levels]
        except (UserError, ValueError, ArithmeticError, IndexError, RuntimeError):
            continue  # it cannot even be called so
        pairs = list(zip(errors, levels, strict=True))
        if all(map(math.isfinite, errors)) and _mean_ratio([(e, level.linear) for e, level in pairs]) < 1.1:
            found[name] = _mean_ratio([(e, level.mse) for e, level in pairs])
    best = min(found, key=lambda name: found[name], default=None)
    if best is None or found[best] > GAIN:
        return None
    return f"{best}; called so, its error is {1 / found[best]:.1f} times smaller"


def _limits(prior: Prior, x0: Tensor) -> tuple[list[str], list[str]]:
    """Return problems and doubts at the ends: D(x, sigma) -> x as sigma -> 0, -> the mean as sigma -> infinity."""
    low, high = max(0.01, prior.sigma_range[0]), min(80.0, prior.sigma_range[1])
    small, large = (math.sqrt(_errors(prior.denoise, x0, sigma)) for sigma in (low, high))
    problems: list[str] = []
    doubts: list[str] = []
    if not small < 1.3 * low:
        # What lies beside its training images a prior may take for noise, but not more than can just be seen.
        text = f"at the small sigma {low:g} it does not leave these images as they are (it changes them by {small:.2g})"
        (doubts if small < 4 * low else problems).append(text)
    size = math.sqrt(float(x0.double().square().mean()))
    if not large < 2 * size:
        problems.append(
            f"at the large sigma {high:g} it does not return its mean image: its error is {large:.3g}, the images' own "
            f"size {size:.3g}"
        )
    return problems, doubts


def _sigma(level: Level) -> float:
    return level.sigma


def require_sound(prior: Prior, image: Tensor | None, device: torch.device) -> tuple[str, ...]:
    """Check a prior before a run; return doubts, for the user to read.

    It costs some twenty calls of the denoiser on one image, or one call where that is slow, and nothing for a prior
    without weights.

    Args:
        prior: the prior of the run.
        image: [C, H, W], of those that will be sampled, where it is known; else a built-in picture serves.
        device: where the prior lives.

    Raises:
        UserError: the prior is wrong; the text says in what.
    """
    if draws_exactly(prior):
        return ()
    if image is None:
        x0, _ = known_images(prior, (), device, count=1)
    else:
        with torch.no_grad():
            x0 = prior.encode(image[None].to(device))
    low, high = prior.sigma_range
    linear = PowerLaw(x0)
    levels: list[Level] = []
    slow = False
    for sigma in sorted(
        (sigma for sigma in QUICK if low <= sigma <= high), key=lambda sigma: abs(sigma - 0.5)
    ):
        start = time.perf_counter()
        levels.append(_measure(prior, x0, linear, sigma))
        slow = time.perf_counter() - start > SLOW
        if slow:
            break
    if not levels:
        return ()
    # Where a call is slow, mistakes are tried only after something was found to be wrong.
    verdict = judge(prior, x0, levels, () if slow else (min(levels, key=_sigma), max(levels, key=_sigma)))
    if slow and verdict.problems:
        verdict = judge(prior, x0, levels, levels)
    if verdict.problems:
        raise UserError(
            f"prior: {verdict.problems[0]}; `daps-kit check-prior` tells more, `check_prior: false` runs it anyway"
        )
    return verdict.doubts
