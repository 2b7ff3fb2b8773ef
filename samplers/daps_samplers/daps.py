r"""Decoupled annealing posterior sampling (DAPS).

Noise levels sigma_0 > ... > sigma_{N-1}. Starting from x_t = sigma_0 n, each level does

    1. x0hat = the prior's guess of x0 given x_t, by the probability-flow ODE
    2. x0y   ~ p(x0 | x_t, y), proportional to N(x0; centre, C) p(y | x0), by MCMC from x0hat
    3. x_t   = x0y + sigma_{i+1} (c e + sqrt(1 - c^2) n),     e = (x_t - x0y) / sigma_i

and the last x0y, denoised once more or not, is the sample. Where the operator is multimodal, there are several
starts, and from level to level those whose x0y explain the measurement best go on, down to one (`plan`). x_t is always
x0 + sigma n, unscaled; a latent prior makes x0 the latent.

Where y = x0 + sigma n, y is itself an x_t: it is the first one, at its own noise level. Those that follow are ever less
noisy versions of the same picture, of which y is a noisier one and says nothing more: x0y ~ p(x0 | x_t). The step is
then the ancestral one, c = sigma_{i+1} / sigma_i, and x0hat of the first level is E[x0 | y]. Where only this sigma is
unknown, the first level draws it from p(sigma | y), and each sample goes on so from y by itself, at its own sigma.

Where y = x0 + noise that is more in some elements than in others, or depends on the light, y is an x_t of a noise level
for each element, and the states lead through it (`bridge`).

Where y is blurred or small, with white noise, and the operator knows the patterns that it measures each by itself, the
noise of x_t is that of y, each pattern's at a level of its own (`coupled`). Annealing then begins at START.

As published, x0hat is reached by several steps of the ODE, C = sigma^2 I, the kernel is Langevin's with a small tau,
and c = 0: the noise is fresh. By default this package takes x0hat = D(x_t, sigma) = E[x0 | x_t], one network call a
level, with the covariance that the prior knows its error to have: for a Gaussian prior that p(x0 | x_t) is exact, as is
every level. Where x0y is drawn from the true p(x0 | x_t, y), e is standard normal and independent of it, so that any
correlation c is as right. It is not where C is a mean over x_t: fresh noise asks the prior anew at every level, and the
error of that C is added each time. c = (sigma_{i+1} / sigma_i)^k keeps some of the noise instead, the less the further
apart the levels are: by k = 1, the ancestral step, x_t changes no more than it must, and by a larger k what went wrong
at a high level is forgotten sooner. c < 0 is over-relaxation (Adler, Phys. Rev. D 23, 2901, 1981): samples that are too
alike, and each of them nearer to the truth.

Sources: Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025,
arXiv 2407.01521, Algorithm 1; Kawar, Vaksman and Elad, "Stochastic image denoising by sampling from the posterior
distribution", ICCV workshops 2021, arXiv 2101.09552, for annealing from the measurement itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf

import torch
from torch import Tensor

from daps_kit.contracts import (
    Kernel,
    LinearOperator,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
    Target,
)
from daps_kit.modes import Modes
from daps_kit.noise import SampleNoise, StackedNoise
from daps_kit.parameters import NOISE, kernel_size

from .annealing import Annealing
from .auto import Auto
from .bridge import Bridge, begins
from .conditional import Conditional, PriorScore, Spread
from .coupled import Coupled
from .evidence import white
from .exact import Exact
from .explained import Explained, residual
from .inference import Inference
from .kernel_draw import KernelInference, path
from .log import Log, lost, not_finite, remarks, replaced
from .mixture import MixtureInference, mixed
from .ode import ProbabilityFlow
from .plan import LAST, SIGMA_MAX, SIGMA_MIN, Budget, complete, network_calls
from .restarts import Draw, best
from .schedules import EDM, VE
from .states import FromMeasurement, FromNoise, States, ThroughMeasurement, WithNoise
from .target import of_states
from .together import together
from .whitened import is_identity

__all__ = ["DAPS"]

FORGETTING = 2.0
"""The power k of the ratio of two noise levels that is the correlation of their noise."""

FORGOTTEN = 0.15
"""Noise level above which all noise is fresh where the operator is multimodal: a wrong mode is to be forgotten."""

START = 2.0
"""The first noise level where the noise of x_t is the measurement's, and"""
ABOVE = 3.0
"""the least that it is, in units of the measurement's noise."""


class DAPS(Sampler):
    """Decoupled annealing posterior sampling.

    Args:
        annealing: the noise levels; what it leaves open is decided for each problem (see `plan`).
        ode: how the prior guesses x0hat.
        kernel: the MCMC kernel, started at x0hat.
        tau: standard deviation of the likelihood exp(-loss / (2 tau^2)); None is the noise model's own.
        prior_score, prior_sigma_min, spread: the Gaussian p(x0 | x_t), see `conditional`. Where a calibrated C is small
            in some directions (by frequency), plain Langevin needs a step size below twice its smallest variance.
        budget: network calls of a sample, where the annealing does not say how many levels there are.
        restarts: how many starts there are for each sample, of which those with the least residuals go on; None: see
            `plan`.
        forgetting: k. None: where C is the prior's own account of its error FORGETTING (for a multimodal operator only
            from sigma FORGOTTEN down), else infinity, fresh noise.
        noise_correlation: c, the same at all levels, in place of `forgetting`.
        final_denoise: whether the last x0y is denoised once, at the noise level of a draw from the last C: what a
            Gaussian of average covariance leaves in smooth places goes away, and samples become too alike. None: where
            no ODE is solved and C is sigma^2 I, which leaves much more.
        latent_gradient_clip: see `DecodedOperator`.
    """

    infers = True

    def __init__(
        self,
        annealing: Annealing,
        ode: ProbabilityFlow,
        kernel: Kernel,
        *,
        tau: float | None = None,
        prior_score: PriorScore = "gaussian",
        prior_sigma_min: float = 0.01,
        spread: Spread = "auto",
        budget: Budget = "balanced",
        restarts: int | None = None,
        forgetting: float | None = None,
        noise_correlation: float | None = None,
        final_denoise: bool | None = None,
        latent_gradient_clip: float | None = None,
    ) -> None:
        self.conditional = Conditional(ode, prior_score, prior_sigma_min, spread, tau)
        self.annealing, self.ode, self.kernel, self.tau = annealing, ode, kernel, tau
        self.as_stated = tau is None
        self.budget, self.restarts, self.final_denoise = budget, restarts, final_denoise
        self.forgetting, self.noise_correlation = forgetting, noise_correlation
        self.latent_gradient_clip = latent_gradient_clip

    def refusal(self, prior: Prior, operator: Operator) -> str:
        """Return why it cannot sample: what is unknown of the operator needs its own noise and a prior of pixels."""
        if operator.parameters is None:
            return ""
        names = operator.parameters.names
        if kernel_size(names) and not (white(operator) and kernel_size(names) ** 2 == len(names)):
            return "a kernel that is unknown needs Gaussian noise with one sigma, which is known"
        if prior.latent:
            return "what is unknown of an operator needs a prior over pixels, and this one is latent"
        return "what is unknown of an operator needs its own noise: leave sampler.tau out" if self.tau else ""

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level, of every start; the x0y of the last, decoded by the prior, is the sample.

        Random numbers are drawn in a fixed order: x_t of all starts, where it is not y; at each level those of x0y, one
        start after the other, and then, except at the last, those of x_t of the starts that go on. A sample that
        becomes NaN is reported as failed and goes on from its x0hat, so that the others are not disturbed; the run ends
        early only when all have failed.

        Raises:
            ValueError: the number of streams is not that of the measurements.
        """
        if len(streams) != len(y):
            raise ValueError(f"{len(y)} measurements need as many random streams, got {len(streams)}")
        if not self._may_lead_through(prior, operator, y):
            yield from self._sample(prior, operator, y, streams, None)
        elif bool((y != y[:1]).any()):
            # Each measurement has noise levels of its own.
            parts = [(y[b : b + 1], streams.of(b)) for b in range(len(y))]
            yield from together(
                [
                    self._sample(prior, operator, *part, self._through(prior, operator, part[0]))
                    for part in parts
                ]
            )
        else:
            yield from self._sample(prior, operator, y, streams, self._through(prior, operator, y))

    def _sample(
        self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams, sigma: float | None
    ) -> Iterator[Step]:
        """Yield the Steps, of states that lead through y from the noise level sigma on, where one is given."""
        run = self._begin(prior, operator, y, streams, sigma)
        nobody = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        states = [(run.states.first(), nobody) for _ in range(run.passing[0])]
        drawn = _Averaged()
        for i in range(len(run.sigmas)):
            draws: list[Draw] = []
            for x_t, failed in states:
                x0y, step = self._level(run, i, x_t, failed, drawn)
                draws.append(Draw(x_t, x0y, step.failed))
                yield step
            if run.rest is not None:
                yield from self._apart(run)
                return
            if i + 1 == len(run.sigmas) or all(bool(draw.failed.all()) for draw in draws):
                return
            kept = best(draws, run.passing[i + 1], lambda x0y: residual(run.operator, x0y, y))
            states = [(run.states.following(draw.x_t, draw.x0y, i), draw.failed) for draw in kept]

    def _apart(self, run: _Run) -> Iterator[Step]:
        """Yield the Steps of samples that begin at y, each at the sigma of its own that was drawn."""
        assert run.rest is not None
        assert run.inference is not None
        values = run.inference.values
        operators = run.inference.parameters.operators(values)
        parts = [
            run.rest.sample(run.prior, operator, run.y[b : b + 1], run.streams.of(b))
            for b, operator in enumerate(operators)
        ]
        return together(parts, run.log.round, run.log.rounds, values)

    def _level(self, run: _Run, i: int, x_t: Tensor, failed: Tensor, drawn: _Averaged) -> tuple[Tensor, Step]:
        """Return x0y of a level and the Step that tells of it.

        Args:
            run: the problem.
            i: index of the level.
            x_t: its noisy state, [B, ...].
            failed: which samples have failed before, [B].
            drawn: takes in what the level says of the mean.
        """
        sigma, levels, inference, values = run.sigmas[i], len(run.sigmas), run.inference, None
        last = i + 1 == levels and run.rest is None
        with torch.no_grad():
            x0hat = self.ode.solve(run.prior, x_t, sigma)
            blind = not_finite(x0hat)
            x0hat = replaced(blind, x0hat, torch.zeros_like(x0hat))

            operator = run.at_values()
            target = self.conditional.target(run.prior, operator, run.y, x_t, x0hat, sigma, i, levels)
            if inference is not None:
                target = inference.before(
                    target, run.streams, self.conditional.averaged(run.prior, x_t, sigma)
                )
            x0y, diverged = x0hat, torch.zeros_like(failed)
            for _ in range(1 if inference is None else inference.rounds):
                x0y, info = run.states.draw(target, x_t, x0y)
                diverged = diverged | lost(x0y, info)
                x0y = replaced(diverged, x0y, x0hat)
                if inference is not None:
                    target, x0y = inference.after(target, x0y, run.streams)
            if inference is not None:
                values = inference.values
                run.log.look_at(inference.operator)

            result = self._denoised(run, x0y, x_t, sigma) if last and run.final_denoise else x0y
            step = run.log.step(
                sigma, x_t, x0hat, x0y, result, info,
                failed=failed, blind=blind, diverged=diverged, last=last,
            )  # fmt: skip
            step.parameters = values
            said = run.states.said(i, target, x_t, x0hat, x0y) if run.averages and not run.plain else None
            if said is not None:
                drawn.add(said)
            if run.averages and last:
                step.average = run.denoised_measurement() if run.plain else drawn.mean
        return x0y, step

    def _denoised(self, run: _Run, x0y: Tensor, x_t: Tensor, sigma: float) -> Tensor:
        """Return x0y denoised at the noise level of a draw from N(0, C), root mean square, at most sigma."""
        level = torch.full((len(x0y),), sigma, dtype=x0y.dtype, device=x0y.device)
        covariance = self.conditional.covariance(run.prior, x_t, sigma)
        if covariance is not None:
            draw = covariance.sqrt(run.streams.normal(x0y.shape[1:], x0y.dtype))
            floor = max(run.prior.sigma_range[0], sigma / 100)
            level = draw.square().flatten(1).mean(1).sqrt().clamp(floor, sigma)
        return run.prior.denoise(x0y, level)

    def _begin(
        self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams, sigma: float | None
    ) -> _Run:
        """Decide what the settings leave open: noise levels, correlation of their noise, how many starts pass each.

        States lead through y from the noise level sigma on, where one is given.
        """
        shape = prior.state_shape(operator.shape)
        operator = of_states(operator, prior, shape, self.latent_gradient_clip)
        accounted, calibrated, denoised = self._account(prior, shape, y.device)
        averages = calibrated and not (denoised or prior.latent)
        plain = averages and _plain(operator, y, prior.sigma_range)
        annealing = self.annealing
        if annealing.schedule is None:
            annealing = replace(annealing, schedule=VE() if calibrated else EDM())
        may_begin = plain and self._may_begin_at(y, operator)
        rest = self._after_first() if may_begin and operator.parameters is not None else None
        from_y = may_begin and operator.parameters is None
        bridge = None if sigma is None else self._bridge(prior, operator, y, sigma, streams)
        own = self._patterns(operator, y) if averages and not plain and bridge is None else None
        if from_y:
            noise = operator.noise.level(y)
            low = annealing.sigma_min or min(SIGMA_MIN[0], LAST * noise)
            annealing, plain = replace(annealing, sigma_max=noise, sigma_min=low), False
        if bridge is not None:
            low = annealing.sigma_min or min(SIGMA_MIN[0], LAST * bridge.sigma)
            annealing = replace(annealing, sigma_max=bridge.sigma, sigma_min=low)
        if own is not None:
            high = min(max(START, ABOVE * operator.noise.level(y)), SIGMA_MAX, prior.sigma_range[1])
            annealing = replace(annealing, sigma_max=high)
        sigmas, passing = complete(
            annealing,
            self.budget,
            self.restarts,
            operator,
            y,
            calls=self.conditional.calls,
            denoised=denoised,
            more_calls=int(plain or sigma is not None or own is not None),
            within=prior.sigma_range,
        )
        if rest is not None:
            sigmas, passing = sigmas[:1], [1]
        whole = operator.parameters is not None and kernel_size(operator.parameters.names) > 0
        if whole and annealing.levels is None:
            sigmas = path(sigmas)
            passing = [1] * len(sigmas)
        said = remarks(
            prior,
            self.annealing,
            self.conditional,
            known=accounted,
            clipped=self.latent_gradient_clip is not None,
        )
        explained = Explained(operator, y) if self.tau is None else None
        rounds = sum(passing) + (0 if rest is None else rest.annealing.levels or int(rest.budget))
        log = Log(prior, self.kernel, explained, rounds, said)
        correlations = self._correlations(
            sigmas, calibrated=calibrated, multimodal=operator.multimodal or whole, from_y=from_y
        )
        inference = None
        if operator.parameters is not None:
            infer = KernelInference if whole else MixtureInference if mixed(operator) else Inference
            inference = infer(operator, y)
        # Kernels that are unknown move the image with them.
        averages = averages and not whole
        like = y.new_zeros(1, *shape, dtype=y.dtype if y.is_floating_point() else torch.float32)
        noisy = FromNoise(self.kernel, like, streams, sigmas, passing, correlations)
        states: States = noisy
        if from_y:
            states = FromMeasurement(y, noisy)
        if bridge is not None:
            states = ThroughMeasurement(bridge, streams, sigmas)
        if own is not None:
            coupled = Coupled(*own, y, operator.noise.level(y) ** 2, streams, FORGETTING)
            states = WithNoise(coupled, self._opening(prior, operator, y), sigmas)
        return _Run(
            prior,
            operator,
            y,
            streams,
            sigmas,
            passing,
            denoised,
            averages,
            plain,
            log,
            states,
            inference,
            rest,
        )

    def _account(self, prior: Prior, shape: tuple[int, ...], device: torch.device) -> tuple[bool, bool, bool]:
        """Return whether C is the prior's own account of its error, whether it counts, and whether x0y is denoised."""
        accounted = self._known(prior, shape, device)
        calibrated = accounted and self.tau is None
        denoised = self.final_denoise
        if denoised is None:
            denoised = self.ode.steps == 0 and not calibrated
        return accounted, calibrated, denoised

    def _may_lead_through(self, prior: Prior, operator: Operator, y: Tensor) -> bool:
        """Return whether states may lead through y: it is an image and noise that is not the same everywhere."""
        if prior.latent or operator.parameters is not None or white(operator):
            return False
        if isinstance(operator.noise, StackedNoise | SampleNoise):  # of samples that are not told apart
            return False
        return operator.orthonormal or is_identity(operator, y)

    def _through(self, prior: Prior, operator: Operator, y: Tensor) -> float | None:
        """Return the noise level from which states lead through one measurement; None where they do not."""
        sigma = begins(operator, y, prior.sigma_range)
        if sigma is None or not self._may_begin_at(y, operator):
            return None
        _, calibrated, denoised = self._account(prior, operator.shape, y.device)
        return sigma if calibrated and not denoised else None

    def _bridge(
        self, prior: Prior, operator: Operator, y: Tensor, sigma: float, streams: RandomStreams
    ) -> Bridge | None:
        """Return the states through y from the noise level sigma on; None where too little is measured for that."""
        with torch.no_grad():
            bridge = Bridge.through(self._opening(prior, operator, y), sigma, streams)
        return bridge if bridge.serves else None

    def _opening(self, prior: Prior, operator: Operator, y: Tensor) -> Target:
        """Return what y and the prior of all images say of x0: one network call, of their mean as a noisy image."""
        high, x_t = min(SIGMA_MAX, prior.sigma_range[1]), y.new_zeros(len(y), *operator.shape)
        with torch.no_grad():
            x0hat = self.ode.solve(prior, x_t, high)
            return self.conditional.target(prior, operator, y, x_t, x0hat, high, 0, 1)

    def _patterns(self, operator: Operator, y: Tensor) -> tuple[LinearOperator, Modes] | None:
        """Return a linear operator and the patterns whose noise in y may be that of the states, if they are known."""
        if not isinstance(operator, LinearOperator) or operator.parameters is not None:
            return None
        if not (self._is_free() and white(operator) and operator.noise.level(y) > 0):
            return None
        modes = operator.modes(y)
        return None if modes is None else (operator, modes)

    def _after_first(self) -> DAPS | None:
        """Return what goes on where a level has been passed; None where there is no further one."""
        levels, rest = self.annealing.levels, copy.copy(self)
        if levels is not None:
            rest.annealing = replace(self.annealing, levels=levels - 1)
        else:
            levels = network_calls(self.budget, linear=True)
            rest.budget = levels - 1
        return rest if levels > 1 else None

    def _may_begin_at(self, y: Tensor, operator: Operator) -> bool:
        """Return whether y = x0 + noise may be the first state, as far as settings go."""
        low = self.annealing.sigma_min
        return self._is_free() and (low is None or low < operator.noise.level(y))

    def _is_free(self) -> bool:
        """Return whether settings leave it open where annealing begins and how it goes on."""
        return (
            self.annealing.sigma_max is None
            and self.ode.steps == 0
            and isinstance(self.kernel, Auto | Exact)
            and self.restarts in (None, 1)
            and self.forgetting is None
            and self.noise_correlation is None
        )

    def _known(self, prior: Prior, shape: tuple[int, ...], device: torch.device) -> bool:
        """Return whether C is the prior's own account of its error."""
        low, high = prior.sigma_range
        probe = torch.zeros(1, *shape, device=device)
        return self.conditional.covariance(prior, probe, min(max(1.0, low), high), probe) is not None

    def _correlations(
        self, sigmas: list[float], *, calibrated: bool, multimodal: bool, from_y: bool
    ) -> list[float]:
        """Return c from each level to the next."""
        if self.noise_correlation is not None:
            return [self.noise_correlation] * (len(sigmas) - 1)

        def power(sigma: float) -> float:
            if from_y:
                return 1.0
            if self.forgetting is not None:
                return self.forgetting
            return FORGETTING if calibrated and not (multimodal and sigma > FORGOTTEN) else inf

        return [(following / sigma) ** power(sigma) for sigma, following in pairwise(sigmas)]


def _plain(operator: Operator, y: Tensor, within: tuple[float, float]) -> bool:
    """Return whether y = x0 + sigma n, sigma within what the prior knows where it is not unknown."""
    if not white(operator):
        return False
    unknown = operator.parameters.names if operator.parameters is not None else ()
    low, high = within
    if any(not name.startswith(NOISE) for name in unknown):
        return False
    return (bool(unknown) or low <= operator.noise.level(y) <= high) and is_identity(operator, y)


class _Averaged:
    """The mean of images that come one by one.

    Attributes:
        mean: of those so far.
    """

    mean: Tensor

    def __init__(self) -> None:
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Take in an image."""
        self.count += 1
        self.mean = x if self.count == 1 else torch.lerp(self.mean, x, 1 / self.count)


@dataclass(frozen=True)
class _Run:
    """A problem, and what was decided for it.

    Attributes:
        sigmas: the noise levels.
        passing: how many starts pass each.
        final_denoise: whether the last x0y is denoised.
        averages: whether Steps have an average: the mean of what the states say of it,
        plain: or, where y = x0 + noise, what the denoiser says of y, which is E[x0 | y].
        log: makes the Steps.
        states: draws x_t and x0y.
        inference: draws what is unknown of the operator; None where nothing is.
        rest: what goes on for each sample, at the sigma that the first level drew, where that alone was unknown.
    """

    prior: Prior
    operator: Operator
    y: Tensor
    streams: RandomStreams
    sigmas: list[float]
    passing: list[int]
    final_denoise: bool
    averages: bool
    plain: bool
    log: Log
    states: States
    inference: Inference | KernelInference | None = None
    rest: DAPS | None = None

    def at_values(self) -> Operator:
        """Return the operator, at the values of what is unknown of it."""
        return self.operator if self.inference is None else self.inference.operator

    def denoised_measurement(self) -> Tensor:
        """Return D(y, sigma), with the noise of the operator."""
        sigma = self.at_values().noise.std(self.y).flatten(1)[:, 0]
        return self.prior.denoise(self.y, sigma.clamp(*self.prior.sigma_range))
