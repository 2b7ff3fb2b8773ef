"""Runs of single samples that are told as one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from daps_kit.contracts import KernelInfo, Step
from daps_kit.failures import Failure
from daps_samplers.together import together


def steps(value: float, count: int, *, lost: bool = False) -> Iterator[Step]:
    for level in range(count):
        x = torch.full((1, 1, 2, 2), value + level)
        failures = (Failure(0, level, 3, 0.1, "denoiser"),) if lost and level + 1 == count else ()
        yield Step(
            level, 3, 0.1 * value, x, x, x, torch.tensor([bool(failures)]), KernelInfo(),
            notes=("said",) if level == 0 else (), failures=failures,
            average=x if level == 2 else None,
        )  # fmt: skip


def test_each_sample_keeps_its_place() -> None:
    parameters = torch.tensor([[0.1], [0.2]])
    found = list(together([steps(10, 3), steps(20, 3)], 1, 4, parameters))
    assert [(step.level, step.levels, step.sigma) for step in found] == [
        (1, 4, 2.0),
        (2, 4, 2.0),
        (3, 4, 2.0),
    ]
    assert [step.x0y[:, 0, 0, 0].tolist() for step in found] == [[10, 20], [11, 21], [12, 22]]
    assert [step.notes for step in found] == [("said",), (), ()]
    assert found[1].average is None
    assert found[2].average is not None
    assert found[2].average[:, 0, 0, 0].tolist() == [12, 22]
    assert all(step.parameters is parameters for step in found)


def test_a_sample_that_is_lost_stays_as_it_was() -> None:
    found = list(together([steps(10, 3), steps(20, 1, lost=True)], 1, 4, torch.zeros(2, 1)))
    assert [step.failed.tolist() for step in found] == [[False, True]] * 3
    assert [step.x0y[1, 0, 0, 0].item() for step in found] == [20] * 3
    assert [[(f.sample, f.level, f.levels) for f in step.failures] for step in found] == [[(1, 1, 4)], [], []]
    assert found[2].average is None
