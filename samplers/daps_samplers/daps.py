r"""Decoupled annealing posterior sampling (DAPS).

Noise levels sigma_0 > ... > sigma_{N-1}. Starting from x_t = sigma_0 n, each level does

    1. x0hat = the prior's guess of x0 given x_t, by the probability-flow ODE
    2. x0y   ~ p(x0 | x_t, y), proportional to N(x0; centre, C) p(y | x0), by MCMC from x0hat
    3. x_t   = x0y + sigma_{i+1} (c e + sqrt(1 - c^2) n),     e = (x_t - x0y) / sigma_i

and the last x0y, denoised once more or not, is the sample. Where the operator has many modes, several starts pass the
highest levels and the one whose x0y explains the measurement best goes on (`plan`). x_t is always x0 + sigma n,
unscaled; a latent prior makes x0 the latent.

As published, x0hat is reached by several steps of the ODE, C = sigma^2 I, the kernel is Langevin's with a small tau,
and c = 0: the noise is fresh. By default this package takes x0hat = D(x_t, sigma) = E[x0 | x_t], one network call a
level, with the covariance that the prior knows its error to have: for a Gaussian prior that p(x0 | x_t) is exact, as is
every level. Where x0y is drawn from the true p(x0 | x_t, y), e is standard normal and independent of it, so that any
correlation c is as right; c < 0 is over-relaxation (Adler, Phys. Rev. D 23, 2901, 1981), which keeps less of what is
wrong about a level.

Source: Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025,
arXiv 2407.01521, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from daps_kit.contracts import (
    Covariance,
    Kernel,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
    Target,
)
from daps_kit.covariance import Isotropic

from .annealing import Annealing
from .ode import ProbabilityFlow
from .placing import place
from .plan import Budget, complete, search_levels
from .target import DecodedOperator, ExactScoreTarget, GaussianTarget
from .whitened import random_signs

__all__ = ["DAPS"]

PriorScore = Literal["gaussian", "score-t", "score-min", "exact"]
Spread = Literal["auto", "sigma", "calibrated", "isotropic"]

OVER_RELAXATION = -0.5
"""Correlation of the noise of a level with that of the one before."""

UNEXPLAINED = 1.1
"""Residual of a result, in standard deviations of the noise, from which a user is told."""


@dataclass
class _Run:
    """A problem, and what has been said and seen while it is sampled.

    Attributes:
        least: the smallest residual of each sample so far, [B]; kept for operators with many modes.
        correlation: of the noise of a level with that of the level before.
        round, rounds: levels passed so far, those of all starts, and how many there will be.
    """

    prior: Prior
    operator: Operator
    y: Tensor
    streams: RandomStreams
    shape: tuple[int, ...]
    dtype: torch.dtype
    sigmas: list[float]
    rounds: int
    messages: tuple[str, ...]
    least: Tensor
    correlation: float
    round: int = 0
    said: set[str] = field(default_factory=set)

    def noise(self, level: int) -> Tensor:
        """Draw noise of the level, [B, ...]."""
        return self.sigmas[level] * self.streams.normal(self.shape, self.dtype)

    def renoised(self, x0y: Tensor, x_t: Tensor, level: int) -> Tensor:
        """Return the x_t that follows x0y and x_t of a level."""
        fresh, c = self.noise(level + 1), self.correlation
        if c == 0:
            return x0y + fresh
        kept = c * self.sigmas[level + 1] / self.sigmas[level]
        return torch.add(x0y, x_t - x0y, alpha=kept).add(fresh, alpha=sqrt(1 - c * c))


class DAPS(Sampler):
    """Decoupled annealing posterior sampling.

    Args:
        annealing: the noise levels; what it leaves open is decided for each problem (see `plan`).
        ode: how the prior guesses x0hat.
        kernel: the MCMC kernel, started at x0hat.
        prior_score: the prior's part of p(x0 | x_t). 'gaussian': centre x0hat. 'score-t': centre E[x0 | x_t].
            'score-min': centre x_t + sigma^2 score(x0hat, prior_sigma_min). 'exact': no Gaussian but
            p(x_t | x0) and the prior's score at noise level prior_sigma_min, asked at every step.
        prior_sigma_min: see above.
        spread: the covariance C. 'sigma': sigma^2 I, the published choice, which is wider than the prior's true
            uncertainty. 'calibrated': the prior's own account of its denoising error, where it gives one
            (`conditional_covariance(x_t, sigma)`), else sigma^2 I with a message. Where that is small in some
            directions (by frequency), plain Langevin needs a step size below twice its smallest variance.
            'isotropic': the mean variance of `denoising_covariance(sigma)`, the same in all directions.
            'auto': 'calibrated' where x0hat = E[x0 | x_t], for which it holds (no ODE is solved and prior_score is
            'gaussian' or 'score-t'), else 'sigma'.
        budget: network calls of a sample, where the annealing does not say how many levels there are.
        restarts: how many starts pass the levels from sigma 4 up, of which the one with the least residual goes on, for
            each sample; None: see `plan`.
        noise_correlation: c. None: OVER_RELAXATION where C is the prior's own account of its error, else 0.
        final_denoise: whether the last x0y is denoised once, at the noise level of a draw from the last C: what a
            Gaussian of average covariance leaves in smooth places goes away. None: where no ODE is solved.
        latent_gradient_clip: see `DecodedOperator`.
    """

    def __init__(
        self,
        annealing: Annealing,
        ode: ProbabilityFlow,
        kernel: Kernel,
        *,
        prior_score: PriorScore = "gaussian",
        prior_sigma_min: float = 0.01,
        spread: Spread = "auto",
        budget: Budget = "balanced",
        restarts: int | None = None,
        noise_correlation: float | None = None,
        final_denoise: bool | None = None,
        latent_gradient_clip: float | None = None,
    ) -> None:
        if spread in ("calibrated", "isotropic") and prior_score in ("score-min", "exact"):
            raise ValueError(f"prior_score '{prior_score}' fixes the spread; '{spread}' cannot go with it")
        self.annealing, self.ode, self.kernel = annealing, ode, kernel
        self.prior_score, self.prior_sigma_min = prior_score, prior_sigma_min
        if spread == "auto":
            direct = ode.steps == 0 and prior_score in ("gaussian", "score-t")
            spread = "calibrated" if direct else "sigma"
        self.spread, self.budget, self.restarts = spread, budget, restarts
        self.noise_correlation = noise_correlation
        self.final_denoise = ode.steps == 0 if final_denoise is None else final_denoise
        self.latent_gradient_clip = latent_gradient_clip

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level, of every start; the x0y of the last, decoded by the prior, is the sample.

        Random numbers are drawn in a fixed order: x_t at the start; at each level those of the kernel and then, except
        at the last, those of x_t; one start after the other. A sample that becomes not-a-number is reported as failed
        and goes on from its x0hat, so that the others are not disturbed; the run ends early only when all have failed.

        Raises:
            ValueError: the number of streams is not that of the measurements.
        """
        if len(streams) != len(y):
            raise ValueError(f"{len(y)} measurements need as many random streams, got {len(streams)}")
        prior, shape = prior.sized(operator.shape), prior.state_shape(operator.shape)
        problem = (
            DecodedOperator(operator, prior, shape, self.latent_gradient_clip) if prior.latent else operator
        )
        sigmas, starts = complete(
            self.annealing,
            self.budget,
            self.restarts,
            problem,
            y,
            calls=self.ode.calls + (self.prior_score in ("score-t", "score-min") and self.ode.steps > 0),
            last_calls=int(self.final_denoise),
            within=prior.sigma_range,
        )
        known = self._covariance(prior, torch.zeros(1, *shape, device=y.device), sigmas[-1]) is not None
        if known and self.annealing.placed and self.kernel.tau is None:
            sigmas = place(sigmas, prior, problem, y, shape)
        search = search_levels(sigmas) if starts > 1 else 0
        correlation = self.noise_correlation
        if correlation is None:
            correlation = OVER_RELAXATION if known and self.kernel.tau is None else 0.0
        run = _Run(
            prior,
            problem,
            y,
            streams,
            shape,
            y.dtype if y.is_floating_point() else torch.float32,
            sigmas,
            rounds=len(sigmas) + (starts - 1) * search,
            messages=self._remarks(prior, known),
            least=torch.full((len(y),), torch.inf, device=y.device),
            correlation=correlation,
        )
        nobody = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        if not search:
            yield from self._levels(run, range(len(sigmas)), run.noise(0), nobody)
            return
        best = torch.full((len(y),), torch.inf, device=y.device)
        chosen, failed = torch.zeros(len(y), *shape, dtype=run.dtype, device=y.device), ~nobody
        for _ in range(starts):
            x0y, lost = yield from self._levels(run, range(search), run.noise(0), nobody)
            found = _residual(problem, x0y, y).masked_fill(lost, torch.inf)
            better = found < best
            best, failed = torch.minimum(best, found), failed & ~better
            chosen = _replace(better, chosen, x0y)
        if search < len(sigmas) and not bool(failed.all()):
            yield from self._levels(run, range(search, len(sigmas)), chosen + run.noise(search), failed)

    def _levels(
        self, run: _Run, levels: range, x_t: Tensor, failed: Tensor
    ) -> Generator[Step, None, tuple[Tensor, Tensor]]:
        """Yield the Steps of some levels from x_t; return the last x0y and which samples have failed."""
        x0y = x_t
        for level in levels:
            step, x0y = self._level(run, x_t, failed, level)
            run.said.update(run.messages)
            news = [text for text in step.info.extra.pop("messages", ()) if text not in run.said]
            step.notes = tuple(text for text in step.info.extra.pop("notes", ()) if text not in run.said)
            run.said.update((*news, *step.notes))
            step.messages = (*run.messages, *news, *step.messages)
            run.messages, failed = (), step.failed
            if self.kernel.tau is None and run.operator.many_modes:
                run.least = torch.minimum(
                    run.least, _residual(run.operator, x0y, run.y).nan_to_num(torch.inf)
                )
            last = level + 1 == len(run.sigmas)
            if last and self.kernel.tau is None:
                step.messages = (*step.messages, *_unexplained(run, x0y, failed))
            if last and self.final_denoise:
                clean = self._denoised(run.prior, x0y, x_t, run.sigmas[level], run.streams)
                step.x0y = _replace(failed, clean, step.x0y)
            yield step
            if bool(failed.all()):
                break
            if level + 1 in levels:
                x_t = run.renoised(x0y, x_t, level)
        return x0y, failed

    @torch.no_grad()
    def _level(self, run: _Run, x_t: Tensor, failed: Tensor, level: int) -> tuple[Step, Tensor]:
        """Return the Step of one level, and its x0y with something finite in the place of failed samples."""
        prior, operator, y, streams = run.prior, run.operator, run.y, run.streams
        sigma, levels, place = run.sigmas[level], len(run.sigmas), run.round
        run.round += 1
        x0hat = self.ode.solve(prior, x_t, sigma)
        blind = ~_finite(x0hat)
        x0hat = _replace(blind, x0hat, torch.zeros_like(x0hat))
        target = self.target(prior, operator, y, x_t, x0hat, sigma, level, levels)
        x0y, info = self.kernel.run(target, x0hat, streams)
        lost = ~_finite(x0y)
        if info.diverged is not None:
            lost = lost | info.diverged.to(lost.device)

        where = f"level {place + 1} of {run.rounds}, sigma {sigma:.3g}"
        messages = []
        if bool((blind & ~failed).any()):
            messages.append(f"{_names(blind & ~failed)} at {where}: the prior's denoiser gave not-a-number")
        lost_now = lost & ~blind & ~failed
        if bool(lost_now.any()):
            messages.append(f"{_names(lost_now)} at {where}: the chain diverged; {self.kernel.advice}")
        failed = failed | blind | lost
        x0y = _replace(lost, x0y, x0hat)
        reported = _replace(failed, x0y, torch.full_like(x0y, torch.nan))
        return Step(place, run.rounds, sigma, x_t, x0hat, reported, failed, info, tuple(messages)), x0y

    def target(
        self,
        prior: Prior,
        operator: Operator,
        y: Tensor,
        x_t: Tensor,
        x0hat: Tensor,
        sigma: float,
        level: int = 0,
        levels: int = 1,
    ) -> Target:
        """Return p(x0 | x_t, y) at one level, as the settings have it.

        Args:
            prior: the prior.
            operator: the operator as a function of x0; in a latent space, a `DecodedOperator`.
            y: the measurement.
            x_t, x0hat: the noisy state and the prior's guess, [B, ...].
            sigma: noise level of x_t.
            level, levels: index of the level and how many there are.
        """
        tau = self.kernel.tau
        covariance = self._covariance(prior, x_t, sigma)
        if covariance is None:
            covariance = Isotropic(torch.tensor(sigma**2, dtype=x_t.dtype, device=x_t.device))
        prior_sigma = min(max(self.prior_sigma_min, prior.sigma_range[0]), prior.sigma_range[1])
        centre = x0hat
        if self.prior_score == "score-t" and not self.ode.direct(prior, sigma):
            centre = prior.denoise(x_t, sigma)
        elif self.prior_score == "score-min":
            centre = x_t + sigma**2 * prior.score(x0hat, prior_sigma)
        elif self.prior_score == "exact":
            centre = x_t
        target = GaussianTarget(
            centre,
            covariance,
            operator,
            y,
            sigma=sigma,
            level=level,
            levels=levels,
            likelihood_variance=operator.noise.dispersion if tau is None else tau**2,
        )
        return ExactScoreTarget(target, prior, prior_sigma) if self.prior_score == "exact" else target

    @torch.no_grad()
    def _denoised(
        self, prior: Prior, x0y: Tensor, x_t: Tensor, sigma: float, streams: RandomStreams
    ) -> Tensor:
        """Return x0y denoised at the noise level of a draw from N(0, C), root mean square, at most sigma."""
        level = torch.full((len(x0y),), sigma, dtype=x0y.dtype, device=x0y.device)
        covariance = self._covariance(prior, x_t, sigma)
        if covariance is not None:
            draw = covariance.scale(streams.normal(x0y.shape[1:], x0y.dtype))
            level = (
                draw.square().flatten(1).mean(1).sqrt().clamp(max(prior.sigma_range[0], sigma / 100), sigma)
            )
        return prior.denoise(x0y, level)

    def _covariance(self, prior: Prior, x_t: Tensor, sigma: float) -> Covariance | None:
        """Return the prior's account of its denoising error, where it is asked for and there is one."""
        if self.spread == "calibrated":
            return prior.conditional_covariance(x_t, sigma)
        known = prior.denoising_covariance(sigma) if self.spread == "isotropic" else None
        return None if known is None else Isotropic(mean_variance(known, x_t))

    def _remarks(self, prior: Prior, known: bool) -> tuple[str, ...]:
        """Return what the user should know before the run: settings that the prior cannot follow."""
        low, high = prior.sigma_range
        remarks = []
        for name, sigma in (
            ("annealing.sigma_max", self.annealing.sigma_max),
            ("annealing.sigma_min", self.annealing.sigma_min),
            ("ode.sigma_min", self.ode.sigma_min if self.ode.steps else None),
            ("prior_sigma_min", self.prior_sigma_min if self.prior_score in ("score-min", "exact") else None),
        ):
            if sigma is not None and not low <= sigma <= high:
                bound = low if sigma < low else high
                remarks.append(f"sampler.{name} {sigma:g} is outside what the prior knows; {bound:g} is used")
        if self.spread in ("calibrated", "isotropic") and not known:
            remarks.append("the prior does not know its denoising error; sampler.spread 'sigma' is used")
        if self.latent_gradient_clip is not None and not prior.latent:
            remarks.append("sampler.latent_gradient_clip has no effect: the prior is not latent")
        return tuple(remarks)


@torch.no_grad()
def _residual(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Return the residual in standard deviations of the noise, [B]."""
    return operator.residual(x, y)


@torch.no_grad()
def _unexplained(run: _Run, x: Tensor, failed: Tensor) -> list[str]:
    """Return what to say of samples whose residual is too large for the noise, by the chi-square test.

    For the true image the mean squared residual of n numbers is 1 within sqrt(2 / n), in units of the noise's variance;
    five times that is no chance. What is within 10 % is left to the error of the prior. An operator with many modes may
    end in a wrong one, whose residual is little larger; but then it was too large at every level, while in the right
    mode the draws at middle levels, where the prior leaves them room, explain the measurement.
    """
    residual, y, observed = _residual(run.operator, x, run.y), run.y, run.operator.observed
    count = y[0].numel() if observed is None else float(observed.sum((-3, -2, -1)).min())
    chance = (1 + 5 * (2 / max(count, 1)) ** 0.5) ** 0.5
    high = (residual > max(UNEXPLAINED, chance)) & ~failed
    wrong = run.least.isfinite() & (run.least > chance) & ~failed
    told = []
    if bool(wrong.any()):
        told.append(
            f"{_names(wrong)}: no level explains the measurement, the least residual is "
            f"{float(run.least[wrong].max()):.3f} standard deviations of the noise where chance allows {chance:.3f}; "
            "the result is likely wrong: try another run"
        )
    high = high & ~wrong
    if bool(high.any()):
        told.append(
            f"{_names(high)}: the residual is up to {float(residual[high].max()):.2f} standard deviations of the "
            "noise, so the measurement is not explained; try another run, more levels (sampler.budget), or look at "
            "operator.noise"
        )
    return told


def mean_variance(covariance: Covariance, like: Tensor) -> Tensor:
    """Return tr(C) / d, by the mean of |C^{1/2} v|^2 / d over 16 vectors of random signs, always the same ones."""
    return covariance.scale(random_signs(16, like)).square().mean()


def _finite(x: Tensor) -> Tensor:
    """Return which samples are finite throughout, [B]."""
    return torch.isfinite(x).flatten(1).all(1)


def _replace(mask: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Return x with the samples of the mask [B] taken from `other`."""
    if not bool(mask.any()):
        return x
    return torch.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), other, x)


def _names(mask: Tensor) -> str:
    """Return 'sample 0' or 'samples 0, 3': the positions in the batch that the mask selects."""
    places = [str(int(place)) for place in mask.nonzero().flatten()]
    return f"sample{'s' if len(places) > 1 else ''} {', '.join(places)} of the batch"
