r"""Conformance checks of samplers. Each is a function of a `SamplerCase`.

With a Gaussian prior N(mu, C), a linear operator that measures half of the directions, and Gaussian noise, the
posterior p(x0 | y) is Gaussian and known (see `problems`). Many samples for one measurement are compared with
it: mean and covariance within five standard errors (fixed seeds) plus `ALLOWANCE`, for chains of finite length.

The prior knows its own denoising covariance, so that p(x0 | x_t) is at hand exactly. A sampler that takes another by
its settings, such as DAPS with r_t = sigma_t, says so by an expected failure with its reason. One that is approximate
by nature says so itself (`Sampler.approximate`): with little noise its mean has to be nearer to the posterior's than
that of the prior is, by far, and its samples no wider than the prior. That is asked of all, and what it is worth
beyond must be shown against something else: another library, or the moments of its own recursion, which are exact
where all is Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import GaussianNoise, Operator, Prior, Sampler, Shape, Step
from daps_kit.errors import UserError

from .base import (
    Z_LIMIT,
    Case,
    NotApplicable,
    expect,
    expect_no_global_randomness,
    expect_unchanged,
    near,
    orthogonal,
    same,
    settings_described,
    settings_import_is_light,
    streams,
    tensor,
)
from .problems import SHAPE, SIZE, DenseOperator, DensePrior, Moments, Posterior, matrix_times

__all__ = ["ALLOWANCE", "CHECKS", "SamplerCase"]

SAMPLES = 400
ALLOWANCE = 0.03
NOISE = 0.5
LITTLE = 0.1
LATENT: Shape = (2, 2, 4)


class _Latent(DensePrior):
    """The same prior seen through a rotation: its state is z, and the image is Q z."""

    def __init__(self, prior: DensePrior, rotation: Tensor) -> None:
        self.rotation, self.image_shape = rotation, prior.shape or SHAPE
        mean = rotation.T @ prior.mean.flatten()
        super().__init__(mean, rotation.T @ prior.matrix @ rotation, self.image_shape)

    def state_shape(self, image_shape: Shape) -> tuple[int, ...]:
        """Return the shape of z, another than that of images."""
        return LATENT

    def encode(self, x: Tensor) -> Tensor:
        """Return Q^T x."""
        return matrix_times(self.rotation.T, x).reshape(len(x), *LATENT)

    def decode(self, z: Tensor) -> Tensor:
        """Return Q z."""
        return matrix_times(self.rotation, z).reshape(len(z), *self.image_shape)


class _Bent(Operator):
    """y = A x + (A x)^2 / 4."""

    def __init__(self, matrix: Tensor, noise: GaussianNoise) -> None:
        super().__init__(SHAPE, noise)
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        """Return it."""
        y = matrix_times(self.matrix, x)
        return y + y.square() / 4


class SamplerCase(Case):
    """A sampler under test.

    Args:
        what: a section, settings, or a sampler.
    """

    def __init__(self, what: Any) -> None:
        super().__init__("sampler", what)
        basis = orthogonal(40, SIZE)
        variances = torch.linspace(0.1, 0.4, SIZE, dtype=torch.float64)
        self.prior = DensePrior(0.3 * tensor(41, (SIZE,), torch.float64), basis * variances @ basis.T)
        self.operator = DenseOperator(orthogonal(42, SIZE)[:8], GaussianNoise(NOISE))
        truth = self.prior.sample(SHAPE, streams(43))
        self.y = self.operator.measure(truth, streams(44))

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler."""
        sampler: Sampler = self.what if self.settings is None else self.settings.build()
        return sampler

    @property
    def posterior(self) -> Posterior:
        """The posterior of the images."""
        return Posterior.of(self.prior.mean, self.prior.matrix, self.operator, self.y, NOISE**2)

    def steps(
        self,
        *seeds: int,
        prior: Prior | None = None,
        y: Tensor | None = None,
        operator: Operator | None = None,
    ) -> list[Step]:
        """Return the steps of a run with one sample a seed."""
        measured = self.y.repeat(len(seeds), 1, 1, 1) if y is None else y
        chosen = operator or self.operator
        return list(self.sampler.sample(prior or self.prior, chosen, measured, streams(*seeds)))

    def attempt(
        self, prior: Prior | None = None, operator: Operator | None = None, count: int = 64
    ) -> list[Step]:
        """Return the steps of a run; its measurement is that of the case, of this operator.

        Raises:
            NotApplicable: the sampler refuses, by one line and before the denoiser is asked.
        """
        denoiser = prior or self.prior
        if operator is not None:
            clean = operator.forward(self.prior.sample(SHAPE, streams(43)))
            y = operator.noise.sample(clean, streams(44)).repeat(count, 1, 1, 1)
        else:
            y = self.y.repeat(count, 1, 1, 1)
        if why := self.sampler.refusal(denoiser, operator or self.operator):
            expect("\n" not in why, f"a refusal is one line, got {why!r}")
            raise NotApplicable(f"it refuses: {why}")
        before = len(getattr(denoiser, "asked", []))
        try:
            steps = self.steps(*range(count), prior=prior, operator=operator, y=y)
        except UserError as refusal:
            expect(len(getattr(denoiser, "asked", [])) == before, "it refuses after the denoiser was asked")
            raise NotApplicable(f"it refuses: {refusal}") from None
        return steps

    @cached_property
    def last(self) -> Step:
        """The last step of a run of many samples."""
        return self.steps(*range(SAMPLES))[-1]

    @cached_property
    def samples(self) -> Tensor:
        """Samples of the posterior, whitened, [SAMPLES, d]."""
        return self.posterior.whiten(self.last.x0y)


def steps_described(case: SamplerCase) -> None:
    """Steps count the levels, noise falls, shapes fit, and every sample is either finite or reported as failed."""
    steps = case.steps(1, 2)
    expect(len(steps) > 0, "the sampler yielded no step")
    expect([step.level for step in steps] == list(range(len(steps))), "levels must count from 0")
    expect({step.levels for step in steps} == {len(steps)}, "levels must say how many steps there are")
    sigmas = [step.sigma for step in steps]
    expect(sigmas == sorted(sigmas, reverse=True), f"sigma must fall from level to level, got {sigmas}")
    for step in steps:
        for name in ("x_t", "x0hat", "x0y"):
            form = tuple(getattr(step, name).shape)
            expect(form == (2, *SHAPE), f"{name} has the shape {form}, not {(2, *SHAPE)}")
        failed = step.failed
        expect(failed.shape == (2,) and failed.dtype == torch.bool, "failed must be one bool a sample")
        broken = ~torch.isfinite(step.x0y).flatten(1).all(1)
        expect(torch.equal(broken, failed), f"failed is {failed.tolist()}, not finite are {broken.tolist()}")


def posterior_mean(case: SamplerCase) -> None:
    """The mean of the samples is that of the posterior, where the sampler is exact."""
    _require_exact(case)
    Moments(case.samples).expect_mean(ALLOWANCE, "samples")


def posterior_covariance(case: SamplerCase) -> None:
    """The covariance of the samples is that of the posterior, where the sampler is exact."""
    _require_exact(case)
    Moments(case.samples).expect_covariance(ALLOWANCE, "samples")


def average(case: SamplerCase) -> None:
    """What comes with the samples as an average is as large, has the posterior's mean and varies less than they do."""
    found = case.last.average
    if found is None:
        raise NotApplicable("it gives none")
    expect(found.shape == case.last.x0y.shape, f"the average has the shape {list(found.shape)}")
    averages = case.posterior.whiten(found)
    width, widest = float(averages.var(0).sum()), float(case.samples.var(0).sum())
    expect(width < widest, f"the averages' variance is {width:.2f}, that of the samples {widest:.2f}")
    _require_exact(case)
    Moments(averages).expect_mean(ALLOWANCE, "averages")


def _require_exact(case: SamplerCase) -> None:
    if case.sampler.approximate:
        raise NotApplicable(f"it is approximate: {case.sampler.approximate}")


def towards_the_posterior(case: SamplerCase) -> None:
    """With little noise the samples' mean is at most half as far from the posterior's as that of the prior, and they
    are no wider than the prior; approximate samplers say in a line why they are.
    """
    expect("\n" not in case.sampler.approximate, "`approximate` is one clause")
    operator = DenseOperator(case.operator.matrix, GaussianNoise(LITTLE))
    y = operator.measure(case.prior.sample(SHAPE, streams(43)), streams(44))
    posterior = Posterior.of(case.prior.mean, case.prior.matrix, operator, y, LITTLE**2)
    x0y = case.steps(*range(64), operator=operator, y=y.repeat(64, 1, 1, 1))[-1].x0y
    samples, prior = posterior.whiten(x0y), posterior.whiten(case.prior.mean.reshape(1, -1))
    found, far = float(samples.mean(0).norm()), float(prior.norm())
    expect(
        found <= far / 2,
        f"the mean is {found:.2f} posterior deviations off; allowed half of the prior's {far:.2f}",
    )
    width, widest = float(x0y.flatten(1).var(0).sum()), float(case.prior.matrix.trace())
    limit = widest * (1 + Z_LIMIT * (2 / (64 * SIZE)) ** 0.5)
    expect(
        width <= limit, f"the samples' variance is {width:.2f}, the prior's {widest:.2f}; allowed {limit:.2f}"
    )


def latent_prior(case: SamplerCase) -> None:
    """With a latent prior the decoded samples have the posterior's mean (where the sampler takes one)."""
    prior = _Latent(case.prior, orthogonal(45, SIZE))
    steps = case.attempt(prior)
    form = tuple(steps[-1].x0y.shape)
    expect(form == (64, *LATENT), f"x0y must be latents {(64, *LATENT)}, has the shape {form}")
    _require_exact(case)
    w = case.posterior.whiten(prior.decode(steps[-1].x0y))
    Moments(w).expect_mean(ALLOWANCE, "decoded samples")


def nonlinear_operator(case: SamplerCase) -> None:
    """With an operator that is not linear samples are finite and explain the measurement better than the prior's mean
    (where the sampler takes one).
    """
    operator = _Bent(case.operator.matrix, GaussianNoise(NOISE))
    x0y = case.attempt(operator=operator)[-1].x0y
    expect(torch.isfinite(x0y).all(), "samples are lost")
    y = operator.noise.sample(operator.forward(case.prior.sample(SHAPE, streams(43))), streams(44))
    mean = case.prior.mean.reshape(1, *SHAPE).to(y)
    found, before = float(operator.loss(x0y.to(y), y).mean()), float(operator.loss(mean, y))
    expect(found < before, f"the samples' misfit is {found:.2f}, that of the prior's mean {before:.2f}")


def within_sigma_range(case: SamplerCase) -> None:
    """The denoiser is asked only at noise levels that the prior knows."""
    low, high = 0.2, 5.0
    prior = DensePrior(case.prior.mean, case.prior.matrix, SHAPE, (low, high))
    case.steps(1, prior=prior)
    if not prior.asked:
        raise NotApplicable("it does not ask the denoiser")
    least, most = min(prior.asked), max(prior.asked)
    inside = low * (1 - 1e-6) <= least and most <= high * (1 + 1e-6)
    expect(inside, f"the prior knows sigma from {low} to {high}, was asked from {least:.3g} to {most:.3g}")


def same_streams_same_samples(case: SamplerCase) -> None:
    """The same streams give the same samples, bit by bit; others give others, unless the sampler is deterministic."""
    first = case.steps(1, 2)[-1].x0y
    same(case.steps(1, 2)[-1].x0y, first, "the same streams gave other samples")
    equal, other = torch.equal(case.steps(3, 4)[-1].x0y, first), case.sampler.deterministic
    expect(
        equal == other,
        f"other streams gave {'the same' if equal else 'other'} samples; `deterministic` is {other}",
    )


def batch_size_independent(case: SamplerCase) -> None:
    """A sample does not depend on the rest of the batch."""
    y = case.y.double()  # so that accepted steps do not hang on rounding
    whole = case.steps(1, 2, 3, y=y.repeat(3, 1, 1, 1))[-1].x0y
    for b in range(3):
        near(whole[b : b + 1], case.steps(1 + b, y=y)[-1].x0y, 1e-3, f"sample {b + 1} in a batch and alone")


def failure_reported(case: SamplerCase) -> None:
    """A sample whose measurement is NaN is reported as lost, with cause and place, and disturbs no other."""
    y = case.y.double().repeat(3, 1, 1, 1)
    healthy = case.steps(1, 2, 3, y=y)[-1].x0y
    y[1] = torch.nan
    steps = case.steps(1, 2, 3, y=y)
    failed = steps[-1].failed.tolist()
    expect(failed == [False, True, False], f"sample 1 has no measurement, but failed is {failed}")
    expect(bool(torch.isnan(steps[-1].x0y[1]).all()), "a failed sample must be NaN")
    for step in steps:
        for failure in step.failures:
            found = (failure.level, failure.levels, failure.sigma)
            place = (step.level, step.levels, step.sigma)
            expect(found == place, f"level, levels and sigma are {place}, the failure says {found}")
    lost = [(failure.sample, failure.cause) for step in steps for failure in step.failures if failure.lost]
    expect([sample for sample, _ in lost] == [1], f"sample 1 is lost, once; the failures say {lost}")
    near(steps[-1].x0y[::2], healthy[::2], 1e-3, "the other samples with and without the failed one")


def no_global_randomness(case: SamplerCase) -> None:
    """A run neither reads nor moves global random states."""
    expect_no_global_randomness(lambda: case.steps(1)[-1].x0y)


def input_unchanged(case: SamplerCase) -> None:
    """The measurement is left as it is."""
    y = case.y.clone()
    expect_unchanged(lambda: case.steps(1, y=y), y=y)


CHECKS: tuple[Callable[[Any], None], ...] = (
    steps_described,
    posterior_mean,
    posterior_covariance,
    average,
    towards_the_posterior,
    latent_prior,
    nonlinear_operator,
    within_sigma_range,
    same_streams_same_samples,
    batch_size_independent,
    failure_reported,
    no_global_randomness,
    input_unchanged,
    settings_described,
    settings_import_is_light,
)
"""The checks of a sampler, in the order in which they are run."""
