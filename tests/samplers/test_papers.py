"""Papers of samplers, kernels and noise schedules."""

from __future__ import annotations

from daps_samplers import daps_kernels, daps_samplers, papers, schedule_settings
from tests.named_papers import see_that_papers_are_named


def test_each_is_named_by_something() -> None:
    see_that_papers_are_named(papers, [*daps_kernels(), *daps_samplers(), *vars(schedule_settings).values()])
