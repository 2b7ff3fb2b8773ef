"""The batch that runs and `daps_kit.sample` share: what is lost and why, and how often the network was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.contracts import (
    Failure,
    GaussianNoise,
    KernelInfo,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
)
from daps_kit.errors import UserError
from daps_kit.runs.draw import Drawn, draw
from daps_priors.exact.gaussian import GaussianPrior

SHAPE = (1, 2, 2)


class Identity(Operator):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Decoding(GaussianPrior):
    """Its decoder cannot take what is beyond 5."""

    def decode(self, z: Tensor) -> Tensor:
        return torch.where(z > 5, torch.nan, z)


class Scripted(Sampler):
    """Asks the prior for some of the samples at each level, and says what it is told to say."""

    def __init__(self, *steps: tuple[list[int], list[bool], list[Failure]], x: Tensor | None = None) -> None:
        self.steps, self.x = steps, torch.zeros(2, *SHAPE) if x is None else x

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        for level, (asked, failed, failures) in enumerate(self.steps):
            if asked:
                prior.score(self.x[asked], 1.0)
            mask = torch.tensor(failed)
            yield Step(
                level, len(self.steps), 1.0 / (level + 1), self.x, self.x, self.x, mask, KernelInfo(),
                warnings=("odd",) if level == 0 else (), failures=tuple(failures),
            )  # fmt: skip


def drawn(sampler: Sampler, prior: Prior | None = None) -> Drawn:
    prior = prior or GaussianPrior(torch.zeros(SHAPE), 1.0)
    return draw(sampler, prior, Identity(SHAPE, GaussianNoise(0.1)), torch.zeros(2, *SHAPE), [1, 2])


def failure(sample: int, level: int, cause: str = "diverged") -> Failure:
    return Failure(sample, level, 2, 1.0 / (level + 1), cause, "do better")  # type: ignore[arg-type]


def test_what_a_sampler_reports_is_handed_on() -> None:
    doubt = failure(0, 1, "residual")
    got = drawn(Scripted(([0, 1], [False, True], [failure(1, 0)]), ([0], [False, True], [doubt])))
    assert got.lost == {1: failure(1, 0)}
    assert got.x0[0].isfinite().all()
    assert got.x0[1].isnan().all()
    assert (got.doubts, got.warnings) == ([doubt], ["odd"])


def test_a_sample_that_comes_to_its_end_in_another_start_is_not_lost() -> None:
    got = drawn(Scripted(([], [True, False], [failure(0, 0)]), ([], [False, False], [])))
    assert got.lost == {}
    assert got.x0.isfinite().all()


def test_a_loss_that_nobody_explains_is_a_loss() -> None:
    got = drawn(Scripted(([], [False, True], [])))
    assert {place: lost.cause for place, lost in got.lost.items()} == {1: "nan"}


def test_an_image_that_cannot_be_decoded_is_lost() -> None:
    x = torch.zeros(2, *SHAPE)
    x[0, 0, 0, 0] = 9
    got = drawn(Scripted(([], [False, False], []), x=x), Decoding(torch.zeros(SHAPE), 1.0))
    assert {place: lost.cause for place, lost in got.lost.items()} == {0: "decoder"}
    assert got.x0[0].isnan().all(), "nothing of a lost image is left"
    assert got.x0[1].isfinite().all()


def test_a_sampler_without_a_step_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="Scripted took no step"):
        drawn(Scripted())


def test_what_a_sampler_cannot_do_is_said_before_it_begins() -> None:
    class Unable(Scripted):
        def refusal(self, prior: Prior, operator: Operator) -> str:
            return f"it knows no {type(operator).__name__}"

    with pytest.raises(UserError, match=r"^sampler: it knows no Identity$"):
        drawn(Unable())


def test_calls_are_counted_by_the_sample_and_leave_the_prior_as_it_was() -> None:
    prior = GaussianPrior(torch.zeros(SHAPE), 1.0)
    steps = [([0, 1], [False, False], []), ([1], [False, False], []), ([], [False, False], [])]
    assert drawn(Scripted(*steps), prior).cost.calls == 1.5
    assert "denoise" not in vars(prior)


def test_what_a_prior_keeps_for_later_is_there_for_the_next_batch() -> None:
    class Keeps(GaussianPrior):
        made = 0

        def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            if not hasattr(self, "kept"):
                self.kept, self.made = x, self.made + 1
            return super().score(x, sigma)

    prior = Keeps(torch.zeros(SHAPE), 1.0)
    for _ in range(2):
        assert drawn(Scripted(([0, 1], [False, False], [])), prior).cost.calls == 1
    assert prior.made == 1


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [
        ({"use": "daps", "budget": 12}, 12),
        ({"use": "daps", "annealing": {"levels": 3}, "ode": {"steps": 2, "solver": "heun"}}, 12),
        (
            {
                "use": "daps",
                "annealing": {"levels": 2},
                "ode": {"steps": 5},
                "prior_score": "exact",
                "kernel": {"use": "langevin", "steps": 7, "lr": 1e-4},
            },
            24,
        ),
    ],
)
def test_calls_are_those_of_the_budget(sampler: dict[str, object], calls: int) -> None:
    assert drawn(daps_kit.build("sampler", sampler)).cost.calls == calls
