r"""Conformance checks of MCMC kernels. Each is a function of a `KernelCase`.

A kernel is tried on a Gaussian posterior with correlated components (see `problems`). Chains that start there
must stay there: after many steps mean and covariance are those of the posterior, by z-tests with five standard errors
and fixed seeds (153 numbers are tested: a right kernel fails for one seed in 10,000, and then fails always).

Exact and adjusted kernels get no allowance. A kernel that reports a step size eta and rejects nothing is exact only as
eta -> 0. With momentum m in [0, 1), x <- x + sqrt(eta) v, its variance on N(0, s^2) is, solving the fixed point of the
linear recursion of (x, v),

    s^2 / (1 - eta / (2 (1 + m) s^2)),      m = 0 being unadjusted Langevin,

so it is off by at most eta / 2 s^2 to first order, and for a time by m (2 - m) / (1 - m) eta / s^2 where velocities are
drawn anew. The posterior's smallest variance is made `RATIO` = 200 times the reported eta, and 5 eta / s^2 = 2.5 % is
allowed. (A kernel that measures its own step size from the target cannot be slowed down so; what it is off by is an
expected failure with its reason.) The chains run for 2 RATIO steps, some relaxation times of Langevin, so that a wrong
target shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo

from .base import (
    Case,
    expect,
    expect_no_global_randomness,
    expect_unchanged,
    near,
    same,
    settings_described,
    settings_import_is_light,
    streams,
)
from .problems import SHAPE, GaussianProblem, Moments

__all__ = ["CHECKS", "KernelCase"]

RATIO = 200
CHAINS = 640
LIKELIHOOD_VARIANCE = 0.01


@dataclass(frozen=True)
class Chains:
    """Chains that started in the posterior: where they started, where they came to, in whitened coordinates."""

    start: Tensor
    end: Tensor


class KernelCase(Case):
    """A kernel under test.

    Args:
        what: a section, settings, or a kernel.
    """

    def __init__(self, what: Any) -> None:
        super().__init__("kernel", what)

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel."""
        kernel: Kernel = self.what if self.settings is None else self.settings.build()
        return kernel

    @cached_property
    def probe(self) -> KernelInfo:
        """What the kernel reports of one step."""
        target, draws = GaussianProblem.of(0.01, LIKELIHOOD_VARIANCE).target(2), streams(1, 2)
        info: KernelInfo = self.kernel.step(target, self.kernel.init(target, target.centre, draws), draws)[1]
        return info

    @cached_property
    def eta(self) -> float | None:
        """The step size that the kernel reports; None where it has none."""
        size = self.probe.step_size
        return None if size is None else float(torch.as_tensor(size).double().mean())

    @property
    def allowance(self) -> float:
        """Relative bias that is allowed."""
        return 5 / RATIO if self.eta is not None and self.probe.acceptance is None else 0.0

    @cached_property
    def problem(self) -> GaussianProblem:
        """A posterior of a width that suits the step size."""
        return GaussianProblem.of(0.01 if self.eta is None else RATIO * self.eta, LIKELIHOOD_VARIANCE)

    @cached_property
    def drawn(self) -> Chains:
        """Chains that started in the posterior."""
        target, draws = self.problem.target(CHAINS), streams(*range(CHAINS))
        start = self.problem.posterior.draw(draws)
        state = self.kernel.init(target, start.clone(), draws)
        for _ in range(min(self.kernel.steps, 3) if self.eta is None else 2 * RATIO):
            state, _ = self.kernel.step(target, state, draws)
        return Chains(*(self.problem.posterior.whiten(x) for x in (start, state.x)))

    def run(self, count: int, *seeds: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, KernelInfo]:
        """Return what a level gives for chains at the centre."""
        target = self.problem.target(count, dtype)
        return self.kernel.run(target, target.centre.clone(), streams(*seeds))


def shapes(case: KernelCase) -> None:
    """Positions keep shape, dtype and device; acceptances are probabilities, one a sample."""
    for dtype in (torch.float32, torch.float64):
        x, info = case.run(3, 1, 2, 3, dtype=dtype)
        expect(tuple(x.shape) == (3, *SHAPE), f"started at the shape {(3, *SHAPE)}, came to {tuple(x.shape)}")
        expect(x.dtype == dtype, f"started in {dtype}, came out in {x.dtype}")
        expect(torch.isfinite(x).all(), "the chain left the finite numbers")
        if info.acceptance is not None:
            a = info.acceptance
            fits = a.shape == (3,) and float(a.min()) >= 0 and float(a.max()) <= 1
            expect(fits, f"acceptance must be three probabilities, got {a.tolist()}")


def invariant_mean(case: KernelCase) -> None:
    """Chains that start in the posterior keep its mean."""
    Moments(case.drawn.end).expect_mean(case.allowance, "chains from the posterior")


def invariant_covariance(case: KernelCase) -> None:
    """Chains that start in the posterior keep its covariance."""
    Moments(case.drawn.end).expect_covariance(case.allowance, "chains from the posterior")


def moves(case: KernelCase) -> None:
    """Chains forget where they started: the correlation of start and end is below 0.9."""
    start, end = case.drawn.start, case.drawn.end
    correlation = float((start * end).mean() / (start.square().mean() * end.square().mean()).sqrt())
    expect(correlation < 0.9, f"after the chain the correlation with its start is {correlation:.3f}")


def same_streams_same_chain(case: KernelCase) -> None:
    """The same streams give the same chain, bit by bit; others give another."""
    first = case.run(2, 1, 2)[0]
    same(case.run(2, 1, 2)[0], first, "the same streams gave another chain")
    expect(not torch.equal(case.run(2, 3, 4)[0], first), "other streams gave the same chain")


def independent_in_batch(case: KernelCase) -> None:
    """A chain does not depend on the rest of the batch (in float64, so that accepted steps do not hang on rounding)."""
    whole = case.run(3, 1, 2, 3, dtype=torch.float64)[0]
    for b in range(3):
        alone = case.run(1, 1 + b, dtype=torch.float64)[0]
        near(whole[b : b + 1], alone, 1e-6, f"chain {b} in a batch and alone")


def reports_not_a_number(case: KernelCase) -> None:
    """A sample whose measurement is NaN is reported as lost, with what helps, and disturbs no other."""
    healthy = case.run(3, 1, 2, 3, dtype=torch.float64)[0]
    target = case.problem.target(3, torch.float64)
    target.y[1] = torch.nan
    x, info = case.kernel.run(target, target.centre.clone(), streams(1, 2, 3))
    lost = [failure for failure in info.failures if failure.lost]
    samples = sorted(failure.sample for failure in lost)
    expect(samples == [1], f"sample 1 has no target, but lost are the samples {samples}")
    expect(bool(lost[0].advice.strip()), f"no advice to the sample that is lost by '{lost[0].cause}'")
    place = (target.level, target.levels, target.sigma)
    found = (lost[0].level, lost[0].levels, lost[0].sigma)
    expect(found == place, f"level, levels and sigma are {place}, the failure says {found}")
    near(x[::2], healthy[::2], 1e-6, "the other samples with and without the lost one")


def no_global_randomness(case: KernelCase) -> None:
    """A chain neither reads nor moves global random states."""
    expect_no_global_randomness(lambda: case.run(2, 1, 2)[0])


def input_unchanged(case: KernelCase) -> None:
    """The start, the centre and the measurement are left as they are."""
    target = case.problem.target(2)
    x = target.centre.clone()
    expect_unchanged(lambda: case.kernel.run(target, x, streams(1, 2)), x=x, centre=target.centre, y=target.y)


CHECKS = (
    shapes,
    invariant_mean,
    invariant_covariance,
    moves,
    same_streams_same_chain,
    independent_in_batch,
    reports_not_a_number,
    no_global_randomness,
    input_unchanged,
    settings_described,
    settings_import_is_light,
)
"""The checks of a kernel, in the order in which they are run."""
