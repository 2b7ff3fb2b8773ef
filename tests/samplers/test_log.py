"""What a run of DAPS reports: each loss where it happens, each doubt and each note once, and remarks at the start."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import Failure, KernelInfo
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.annealing import Annealing
from daps_samplers.conditional import Conditional
from daps_samplers.langevin import Langevin
from daps_samplers.log import Log, lost, not_finite, remarks, replaced
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM

SHAPE = (1, 2, 2)
NOBODY = torch.zeros(3, dtype=torch.bool)


def which(*samples):
    return torch.tensor([b in samples for b in range(3)])


def step(log, info=None, failed=NOBODY, blind=NOBODY, diverged=NOBODY, sigma=0.5):
    x = torch.zeros(3, *SHAPE)
    return log.step(
        sigma, x, x, x, x + 1, info or KernelInfo(), failed=failed, blind=blind, diverged=diverged, last=False
    )


@pytest.fixture
def log():
    return Log(GaussianPrior(0.0, 1.0), Langevin(lr=0.1), None, 9, ("odd",))


def test_levels_are_counted_and_warnings_come_first(log):
    steps = [step(log) for _ in range(3)]
    assert [(s.level, s.levels, s.warnings) for s in steps] == [(0, 9, ("odd",)), (1, 9, ()), (2, 9, ())]


def test_each_loss_has_its_cause_and_its_advice(log):
    step(log)
    kernels = Failure(2, 0, 4, 0.5, "start", "the kernel's advice")
    got = step(log, KernelInfo(failures=(kernels,)), blind=which(0), diverged=which(0, 1, 2))
    assert got.failures == (
        Failure(0, 1, 9, 0.5, "denoiser", GaussianPrior.nan_advice),
        Failure(1, 1, 9, 0.5, "diverged", log.kernel.advice),
        Failure(2, 1, 9, 0.5, "start", "the kernel's advice"),
    )
    assert got.failed.tolist() == [True] * 3
    assert got.x0y.isnan().all()


def test_who_had_failed_is_not_told_again(log):
    got = step(log, failed=which(0, 1), blind=which(0), diverged=which(1, 2))
    assert [failure.sample for failure in got.failures] == [2]
    assert got.failed.tolist() == [True] * 3
    whole = step(log, failed=which(1))
    assert whole.x0y[1].isnan().all()
    assert (whole.x0y[[0, 2]] == 1).all()


def test_doubts_and_notes_are_told_once(log):
    doubt = Failure(1, 0, 4, 0.5, "solver", "more steps", 0.4)
    first = step(log, KernelInfo(failures=(doubt,), notes=("auto: exact",)))
    assert first.failures == (Failure(1, 0, 9, 0.5, "solver", "more steps", 0.4),)
    assert first.notes == ("auto: exact",)
    other = Failure(2, 1, 4, 0.5, "solver", "more steps", 0.9)
    again = step(log, KernelInfo(failures=(doubt, other), notes=("auto: exact", "auto: rto")))
    assert [failure.sample for failure in again.failures] == [2]
    assert again.notes == ("auto: rto",)


def test_a_sample_is_lost_if_the_kernel_says_so_or_the_numbers_do():
    x = torch.zeros(3, *SHAPE)
    x[0, 0, 0, 0] = torch.inf
    info = KernelInfo(failures=(Failure(2, 0, 1, 1.0, "diverged"), Failure(1, 0, 1, 1.0, "solver")))
    assert not_finite(x).tolist() == [True, False, False]
    assert lost(x, info).tolist() == [True, False, True]
    assert replaced(which(0), x, torch.ones_like(x)).flatten(1).sum(1).tolist() == [4, 0, 0]


@pytest.mark.parametrize(
    ("sigma_range", "ode", "score", "named"),
    [
        ((0.0, 100.0), 5, "exact", []),
        ((0.2, 100.0), 0, "gaussian", ["sigma_min 0.1 "]),
        ((0.2, 5.0), 0, "gaussian", ["sigma_max 10 ", "sigma_min 0.1 "]),
        ((0.05, 100.0), 5, "gaussian", ["ode.sigma_min 0.01 "]),
        ((0.05, 100.0), 5, "exact", ["ode.sigma_min 0.01 ", "prior_sigma_min 0.02 "]),
        ((0.05, 100.0), 0, "score-min", ["prior_sigma_min 0.02 "]),
    ],
)
def test_settings_that_the_prior_cannot_follow_are_remarked(sigma_range, ode, score, named):
    prior = GaussianPrior(0.0, 1.0)
    prior.sigma_range = sigma_range
    conditional = Conditional(ProbabilityFlow(EDM(), ode, 0.01), score, 0.02)
    lines = remarks(prior, Annealing(EDM(), 5, 10.0, 0.1), conditional, known=True, clipped=False)
    assert len(lines) == len(named)
    assert all(name in line for name, line in zip(named, lines, strict=True))


@pytest.mark.parametrize(
    ("spread", "known", "clipped", "count"),
    [
        ("calibrated", True, False, 0),
        ("isotropic", False, False, 1),
        ("sigma", False, True, 1),
        ("auto", False, True, 2),
    ],
)
def test_settings_without_effect_are_remarked(spread, known, clipped, count):
    conditional = Conditional(ProbabilityFlow(EDM(), 0), spread=spread)
    lines = remarks(GaussianPrior(0.0, 1.0), Annealing(EDM()), conditional, known=known, clipped=clipped)
    assert len(lines) == count


def test_the_nearest_level_that_the_prior_knows_is_told():
    prior = GaussianPrior(0.0, 1.0)
    prior.sigma_range = (0.2, 50.0)
    lines = remarks(
        prior,
        Annealing(EDM(), 5, 80.0, 0.1),
        Conditional(ProbabilityFlow(EDM(), 0)),
        known=True,
        clipped=False,
    )
    assert lines == (
        "sampler.annealing.sigma_max 80 is outside what the prior knows; 50 is used",
        "sampler.annealing.sigma_min 0.1 is outside what the prior knows; 0.2 is used",
    )
