"""What is reported of a run: who is lost and why, told once."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import GaussianNoise, Kernel, KernelInfo, Operator, Prior
from daps_kit.failures import Failure
from daps_samplers.annealing import Annealing
from daps_samplers.conditional import Conditional
from daps_samplers.explained import Explained
from daps_samplers.log import Log, lost, not_finite, remarks, replaced
from daps_samplers.ode import ProbabilityFlow
from daps_samplers.schedules import EDM

NOBODY = torch.zeros(4, dtype=torch.bool)
X = torch.arange(4.0).reshape(4, 1, 1, 1) + 1


class Any(Prior):
    nan_advice = "look at the weights"

    def denoise(self, x, sigma):
        return x


class Still(Kernel):
    advice = "a smaller step"

    def init(self, target, x, streams):
        return x

    def step(self, target, state, streams):
        return state, KernelInfo()


class Far(Operator):
    """Every image is as far from its measurement as its first number says."""

    def forward(self, x):
        return x

    def residual(self, x, y):
        return x.flatten(1)[:, 0]


def log(explained=None, warnings=("first", "second", "first")):
    return Log(Any(), Still(), explained, 3, warnings)


def some(*places):
    mask = NOBODY.clone()
    mask[list(places)] = True
    return mask


def step(log, info=None, *, failed=NOBODY, blind=NOBODY, diverged=NOBODY, last=False, sigma=0.5):
    info = info or KernelInfo()
    return log.step(sigma, X, X, X, X, info, failed=failed, blind=blind, diverged=diverged, last=last)


def test_warnings_and_notes_are_told_once_and_levels_counted():
    told, made = log(), KernelInfo(notes=("exact draws",))
    first, second = step(told, made), step(told, made, sigma=0.25)
    assert (first.level, first.levels, first.sigma) == (0, 3, 0.5)
    assert (second.level, second.levels, second.sigma) == (1, 3, 0.25)
    assert (first.warnings, second.warnings) == (("first", "second"), ())
    assert (first.notes, second.notes) == (("exact draws",), ())
    assert first.failures == second.failures == ()
    assert torch.equal(first.x0y, X)


def test_the_lost_are_named_by_their_cause_and_only_when_they_are_lost():
    info = KernelInfo(failures=(Failure(3, 0, 1, 0.5, "start", "look at y"),))
    told = log()
    step(told)
    found = step(told, info, failed=some(0), blind=some(0, 1), diverged=some(0, 1, 2, 3))
    assert found.failures == (
        Failure(1, 1, 3, 0.5, "denoiser", "look at the weights"),
        Failure(2, 1, 3, 0.5, "diverged", "a smaller step"),
        Failure(3, 1, 3, 0.5, "start", "look at y"),  # what the kernel itself says comes first
    )
    assert found.failed.tolist() == [True] * 4
    assert found.x0y.isnan().all()
    kept = step(log(), blind=some(2))
    assert kept.failed.tolist() == [False, False, True, False]
    assert torch.equal(kept.x0y[[0, 1, 3]], X[[0, 1, 3]])


def test_doubts_of_a_kernel_are_told_once_a_sample_and_cause():
    doubt = Failure(1, 0, 1, 0.5, "solver", "more cg_steps", 0.3)
    told = log()
    assert step(told, KernelInfo(failures=(doubt,))).failures == (
        Failure(1, 0, 3, 0.5, "solver", "more cg_steps", 0.3),
    )
    worse = Failure(1, 0, 1, 0.5, "solver", "more cg_steps", 0.9)
    other = Failure(2, 0, 1, 0.5, "solver", "more cg_steps", 0.1)
    again = step(told, KernelInfo(failures=(worse, other)))
    assert [(each.sample, each.level) for each in again.failures] == [(2, 1)]
    assert not bool(again.failed.any())


def test_the_residual_is_looked_at_in_the_end_and_of_the_living():
    explained = Explained(Far((1, 1, 1), GaussianNoise(0.1)), torch.zeros(4, 1, 1, 10**6))
    told = log(explained)
    assert step(told).failures == ()
    found = step(told, diverged=some(3), last=True)
    assert [(each.sample, each.cause) for each in found.failures] == [
        (3, "diverged"),
        (1, "residual"),
        (2, "residual"),
    ]


def test_what_is_not_finite_or_said_to_be_is_lost():
    x = X.clone()
    x[1], x[2] = torch.nan, -torch.inf
    assert not_finite(x.expand(4, 1, 2, 2)).tolist() == [False, True, True, False]
    said = (Failure(3, 0, 1, 0.5, "diverged"), Failure(0, 0, 1, 0.5, "solver"))
    assert lost(x, KernelInfo(failures=said)).tolist() == [False, True, True, True]
    assert replaced(NOBODY, x, X) is x
    assert torch.equal(replaced(some(1, 2), x, 10 * X).flatten(), torch.tensor([1.0, 20.0, 30.0, 4.0]))


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        (10.0, 0.1, []),
        (10.1, 0.1, ["sampler.annealing.sigma_max 10.1 is outside what the prior knows; 10 is used"]),
        (10.0, 0.05, ["sampler.annealing.sigma_min 0.05 is outside what the prior knows; 0.1 is used"]),
        (None, None, []),
    ],
)
def test_levels_beyond_what_a_prior_knows_are_remarked(high, low, expected):
    prior = Any()
    prior.sigma_range = (0.1, 10.0)
    conditional = Conditional(ProbabilityFlow(EDM(), 0, 0.001), prior_sigma_min=0.001)
    found = remarks(prior, Annealing(EDM(), 5, high, low), conditional, known=True, clipped=False)
    assert list(found) == expected


def test_settings_without_effect_are_remarked():
    conditional = Conditional(ProbabilityFlow(EDM(), 5, 0.001), "score-min", 0.002)
    prior = Any()
    prior.sigma_range = (0.1, 10.0)
    told = remarks(prior, Annealing(EDM()), conditional, known=False, clipped=True)
    assert [line.split()[0] for line in told] == [
        "sampler.ode.sigma_min", "sampler.prior_sigma_min", "sampler.latent_gradient_clip",
    ]  # fmt: skip
    (line,) = remarks(
        Any(), Annealing(EDM()), Conditional(ProbabilityFlow(EDM(), 0)), known=False, clipped=False
    )
    assert "sampler.spread 'sigma' is used" in line
