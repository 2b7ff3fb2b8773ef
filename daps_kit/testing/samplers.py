r"""Conformance checks of samplers. Each is a function of a `SamplerCase`.

With a Gaussian prior N(mu, C), a linear operator that measures half of the directions, and Gaussian noise, the
posterior p(x0 | y) is Gaussian and known (see `problems`). Many samples for one measurement are compared with
it: mean and covariance within five standard errors (fixed seeds) plus `ALLOWANCE`, for chains of finite length.

The prior knows its own denoising covariance, so that p(x0 | x_t) is at hand exactly. A method that takes another, such
as DAPS with r_t = sigma_t, does not draw from the posterior, and says so by an expected failure with its reason.
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

    @cached_property
    def samples(self) -> Tensor:
        """Samples of the posterior, whitened, [SAMPLES, d]."""
        return self.posterior.whiten(self.steps(*range(SAMPLES))[-1].x0y)


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
    """The mean of the samples is that of the posterior."""
    Moments(case.samples).expect_mean(ALLOWANCE, "samples")


def posterior_covariance(case: SamplerCase) -> None:
    """The covariance of the samples is that of the posterior."""
    Moments(case.samples).expect_covariance(ALLOWANCE, "samples")


def latent_prior(case: SamplerCase) -> None:
    """With a latent prior the decoded samples have the posterior's mean (where the sampler takes one)."""
    prior = _Latent(case.prior, orthogonal(45, SIZE))
    try:
        steps = case.steps(*range(64), prior=prior)
    except UserError as refusal:
        raise NotApplicable(f"it refuses latent priors: {refusal}") from None
    form = tuple(steps[-1].x0y.shape)
    expect(form == (64, *LATENT), f"x0y must be latents {(64, *LATENT)}, has the shape {form}")
    w = case.posterior.whiten(prior.decode(steps[-1].x0y))
    Moments(w).expect_mean(ALLOWANCE, "decoded samples")


def within_sigma_range(case: SamplerCase) -> None:
    """The denoiser is asked only at noise levels that the prior knows."""
    low, high = 0.2, 5.0
    prior = DensePrior(case.prior.mean, case.prior.matrix, SHAPE, (low, high))
    case.steps(1, prior=prior)
    least, most = min(prior.asked), max(prior.asked)
    inside = low * (1 - 1e-6) <= least and most <= high * (1 + 1e-6)
    expect(inside, f"the prior knows sigma from {low} to {high}, was asked from {least:.3g} to {most:.3g}")


def same_streams_same_samples(case: SamplerCase) -> None:
    """The same streams give the same samples, bit by bit; others give others."""
    first = case.steps(1, 2)[-1].x0y
    same(case.steps(1, 2)[-1].x0y, first, "the same streams gave other samples")
    expect(not torch.equal(case.steps(3, 4)[-1].x0y, first), "other streams gave the same samples")


def batch_size_independent(case: SamplerCase) -> None:
    """A sample does not depend on the rest of the batch."""
    y = case.y.double()  # so that accepted steps do not hang on rounding
    whole = case.steps(1, 2, 3, y=y.repeat(3, 1, 1, 1))[-1].x0y
    for b in range(3):
        near(whole[b : b + 1], case.steps(1 + b, y=y)[-1].x0y, 1e-3, f"sample {b} in a batch and alone")


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
    latent_prior,
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
