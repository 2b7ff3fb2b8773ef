"""Several starts: which levels they pass, which of them goes on, and what is said where none is right."""

from __future__ import annotations

import pytest
import torch

import daps_kit
from daps_kit.contracts import Operator, RandomStreams
from daps_kit.noise import GaussianNoise
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers import Daps
from daps_samplers.plan import BUDGETS, RESTARTS
from daps_samplers.restarts import Draw, best

SHAPE = (1, 8, 8)


class Power(Operator):
    """y = x^2, whose sign is lost."""

    multimodal = True

    def __init__(self) -> None:
        super().__init__(SHAPE, GaussianNoise(0.05))

    def forward(self, x):
        return x.square()


def sample(operator, y, prior=None, seeds=range(3), **settings):
    calls = []
    prior = prior or GaussianPrior(torch.full(SHAPE, 0.5), 0.3)
    denoise = prior.denoise
    prior.denoise = lambda x, sigma: calls.append(sigma) or denoise(x, sigma)
    return list(Daps(**settings).build().sample(prior, operator, y, RandomStreams(seeds))), calls


def measured(count=3):
    x0 = 0.5 + 0.3 * RandomStreams(range(10, 10 + count)).normal(SHAPE)
    return Power().measure(x0, RandomStreams(range(20, 20 + count)))


@pytest.mark.parametrize("budget", [*BUDGETS, 33])
def test_the_starts_thin_out_within_the_budget(budget):
    steps, calls = sample(Power(), measured(), budget=budget)
    total = BUDGETS[budget][1] if isinstance(budget, str) else budget
    assert total - 4 < len(calls) <= total
    assert len(steps) == len(calls)
    sigmas = [step.sigma for step in steps]
    assert sigmas == sorted(sigmas, reverse=True)
    passing = [sigmas.count(sigma) for sigma in sorted(set(sigmas), reverse=True)]
    assert passing == sorted(passing, reverse=True)
    assert passing[0] == min(RESTARTS, total // 4)
    assert passing[-len(passing) // 2 :] == [1] * len(passing[-len(passing) // 2 :])
    assert [step.level for step in steps] == list(range(len(steps)))
    assert {step.levels for step in steps} == {len(steps)}


def test_those_with_the_least_residuals_go_on_for_each_sample():
    y, operator = measured(), Power()
    steps, _ = sample(operator, y, budget=33)
    first, second = (
        [step for step in steps if step.sigma == sigma]
        for sigma in sorted({step.sigma for step in steps}, reverse=True)[:2]
    )
    ends = torch.stack([step.x0y for step in first])
    order = torch.stack([operator.residual(end, y) for end in ends]).argsort(0)
    assert 1 < len(second) < len(first)
    assert len(set(order[0].tolist())) > 1, "the samples choose apart"
    for place, step in zip(order, second, strict=False):
        noise = (step.x_t - ends[place, torch.arange(3)]) / step.sigma
        assert float(noise.std()) == pytest.approx(1, abs=0.2)
        assert float((noise - noise.mean()).abs().max()) < 5


def test_what_has_failed_goes_on_last():
    images = [torch.full((2, 1), value) for value in (0.0, 1.0, torch.nan, 3.0)]
    failed = [torch.tensor([place == 0, False]) for place in range(4)]
    draws = [Draw(-image, image, lost) for image, lost in zip(images, failed, strict=True)]
    kept = best(draws, 3, lambda x0y: x0y[:, 0])
    assert [draw.x0y[:, 0].tolist() for draw in kept[:2]] == [[1.0, 0.0], [3.0, 1.0]]
    assert [draw.x_t[:, 0].tolist() for draw in kept[:2]] == [[-1.0, 0.0], [-3.0, -1.0]]
    assert [draw.failed.tolist() for draw in kept] == [[False, False], [False, False], [True, False]]
    assert best(draws, 4, lambda x0y: x0y[:, 0]) == draws


def test_a_sample_does_not_depend_on_its_batch():
    y = measured()
    together = sample(Power(), y, budget=33)[0][-1].x0y
    alone = sample(Power(), y[1:2], budget=33, seeds=[1])[0][-1].x0y
    torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-4)


def test_one_start_where_the_levels_are_given_or_the_operator_has_one_mode():
    class OneMode(Power):
        multimodal = False

    assert len(sample(Power(), measured(), annealing={"levels": 6})[0]) == 6
    assert len(sample(OneMode(), measured(), budget=20)[0]) == 20
    assert len(sample(Power(), measured(), budget=20, restarts=1)[0]) == 20


def test_a_sample_in_a_wrong_mode_is_named():
    y = measured()
    y[1] = 0.3 * RandomStreams([7]).normal(SHAPE)[0] - 0.5
    last = sample(Power(), y, budget=25)[0][-1]
    (told,) = last.failures
    assert (told.sample, told.cause, told.lost, told.level) == (1, "mode", False, last.level)
    assert str(told).startswith("no level explains the measurement")
    assert not sample(Power(), measured(), budget=25)[0][-1].failures


@pytest.mark.slow
def test_no_sample_of_the_quickstart_is_two_heads_laid_over_each_other(tmp_path):
    changes = ["data={use: prior, count: 1}", "runs=4", f"output={tmp_path / 'run'}"]
    (image,) = daps_kit.run("embedded/phase_retrieval", changes, quiet=True).metrics["images"].values()
    assert min(sample["psnr"] for sample in image["samples"]) > 25
    assert image["noise"]["apart"] == 0
    assert image["network_calls"][0] <= BUDGETS["balanced"][1]
