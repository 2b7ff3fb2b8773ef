"""Runs that go their own ways, told as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from daps_kit.contracts import KernelInfo, Step

__all__ = ["together"]


def together(
    parts: Sequence[Iterator[Step]],
    first: int = 0,
    levels: int | None = None,
    parameters: Tensor | None = None,
) -> Iterator[Step]:
    """Yield the Steps of runs of one sample each as those of one batch.

    A run that ends early, its sample lost, stays as it was left. Warnings are left out.

    Args:
        parts: the runs, in the order of the samples.
        first: index of the level that they begin with.
        levels: how many there are in all; as many as a run says where that is not given.
        parameters: values of the unknown parameters, which stay, [B, P].
    """
    steps: list[Step] = []
    for level, found in enumerate(zip_longest(*parts), first):
        steps = [step or replace(before, failures=(), notes=()) for step, before in zip_longest(found, steps)]
        x_t, x0hat, x0y, failed = (
            torch.cat([getattr(step, name) for step in steps]) for name in ("x_t", "x0hat", "x0y", "failed")
        )
        count = levels or max(step.levels for step in steps)
        averages = [step.average for step in steps if step.average is not None]
        yield Step(
            level,
            count,
            max(step.sigma for step in steps),
            x_t,
            x0hat,
            x0y,
            failed,
            KernelInfo(),
            notes=tuple(dict.fromkeys(note for step in steps for note in step.notes)),
            failures=tuple(
                replace(failure, sample=place, level=level, levels=count)
                for place, step in enumerate(steps)
                for failure in step.failures
            ),
            parameters=parameters,
            average=torch.cat(averages) if len(averages) == len(steps) else None,
        )
