"""What is reported of a run of DAPS: who is lost and why, who is to be doubted, and what the settings mean here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, Operator, Prior, Step
from daps_kit.failures import Failure

from .annealing import Annealing
from .conditional import OWN, Conditional
from .explained import Explained

__all__ = ["Log", "lost", "not_finite", "remarks", "replaced"]

Item = TypeVar("Item")


class Log:
    """Makes the Steps of a run; doubts and notes are told once.

    Args:
        prior, kernel: whose advice is passed on.
        explained: the test of the residual; None where the likelihood is not that of the noise.
        rounds: how many levels will be passed, those of all starts.
        warnings: told with the first Step.

    Attributes:
        round: levels passed so far.
    """

    def __init__(
        self,
        prior: Prior,
        kernel: Kernel,
        explained: Explained | None,
        rounds: int,
        warnings: tuple[str, ...],
    ) -> None:
        self.prior, self.kernel, self.explained = prior, kernel, explained
        self.rounds, self.warnings, self.round = rounds, warnings, 0
        self._said: set[object] = set()

    def look_at(self, operator: Operator) -> None:
        """Judge what follows by an operator, at other values of its parameters."""
        if self.explained is not None:
            self.explained.operator = operator

    def step(
        self,
        sigma: float,
        x_t: Tensor,
        x0hat: Tensor,
        x0y: Tensor,
        sample: Tensor,
        info: KernelInfo,
        *,
        failed: Tensor,
        blind: Tensor,
        diverged: Tensor,
        last: bool,
    ) -> Step:
        """Return the Step of a level.

        Args:
            sigma, x_t, x0hat, x0y: of the level; what is lost holds something finite.
            sample: x0y, denoised or not.
            info: what the kernel reported.
            failed: samples that had failed before, [B].
            blind, diverged: samples whose x0hat was NaN, and those that the kernel lost, [B].
            last: whether the run ends here.
        """
        level, levels = self.round, self.rounds
        reported = {failure.sample: failure for failure in info.failures if failure.lost}
        failures = [
            Failure(b, level, levels, sigma, "denoiser", self.prior.nan_advice)
            for b in _places(blind & ~failed)
        ]
        for b in _places(diverged & ~blind & ~failed):
            failure = reported.get(b) or Failure(b, level, levels, sigma, "diverged", self.kernel.advice)
            failures.append(replace(failure, level=level, levels=levels))
        failed = failed | blind | diverged
        doubts = [replace(f, level=level, levels=levels) for f in info.failures if not f.lost]
        if self.explained is not None:
            self.explained.see(x0y)
            doubts += self.explained.doubts(x0y, ~failed, level, levels, sigma) if last else []
        self.round += 1
        return Step(
            level,
            levels,
            sigma,
            x_t,
            x0hat,
            replaced(failed, sample, torch.full_like(sample, torch.nan)),
            failed,
            info,
            warnings=tuple(self._news(self.warnings)),
            notes=tuple(self._news(info.notes)),
            failures=(*failures, *self._news(doubts, lambda failure: (failure.sample, failure.cause))),
        )

    def _news(
        self, items: Iterable[Item], key: Callable[[Item], object] = lambda item: item
    ) -> Iterator[Item]:
        """Yield the items that were not told before."""
        for item in items:
            if key(item) not in self._said:
                self._said.add(key(item))
                yield item


def remarks(
    prior: Prior, annealing: Annealing, conditional: Conditional, *, known: bool, clipped: bool
) -> tuple[str, ...]:
    """Return what a user should know before a run: settings that the prior cannot follow, or without effect.

    Args:
        prior: the prior.
        annealing, conditional: the settings.
        known: whether the prior knows its denoising error.
        clipped: whether `latent_gradient_clip` is set.
    """
    low, high = prior.sigma_range
    ode, scored = conditional.ode, conditional.prior_score in ("score-min", "exact")
    lines = []
    for name, sigma in (
        ("annealing.sigma_max", annealing.sigma_max),
        ("annealing.sigma_min", annealing.sigma_min),
        ("ode.sigma_min", ode.sigma_min if ode.steps else None),
        ("prior_sigma_min", conditional.prior_sigma_min if scored else None),
    ):
        if sigma is not None and not low <= sigma <= high:
            bound = low if sigma < low else high
            lines.append(f"sampler.{name} {sigma:g} is outside what the prior knows; {bound:g} is used")
    if conditional.spread in OWN and not known:
        lines.append("the prior does not know its denoising error; sampler.spread 'sigma' is used")
    if clipped and not prior.latent:
        lines.append("sampler.latent_gradient_clip has no effect: the prior is not latent")
    return tuple(lines)


def lost(x0y: Tensor, info: KernelInfo) -> Tensor:
    """Return which samples a kernel lost, [B]: those it says, and those that are not finite."""
    mask = not_finite(x0y)
    for failure in info.failures:
        if failure.lost:
            mask[failure.sample] = True
    return mask


def not_finite(x: Tensor) -> Tensor:
    """Return which samples are not finite throughout, [B]."""
    return ~torch.isfinite(x).flatten(1).all(1)


def replaced(mask: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Return x with the samples of the mask [B] taken from `other`."""
    if not bool(mask.any()):
        return x
    return torch.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), other, x)


def _places(mask: Tensor) -> list[int]:
    places: list[int] = mask.nonzero().flatten().tolist()
    return places
