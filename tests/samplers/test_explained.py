"""The chi-square test of a result: where the line is, what is counted, and how a wrong mode is told."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from daps_samplers.explained import Explained

NOISE = 0.2
WHERE = (4, 5, 0.1)


def explained(scaled_operator, shape, batch=1, observed=None, multimodal=False):
    operator = scaled_operator(1.0, NOISE, shape)
    operator.multimodal = multimodal
    if observed is not None:
        operator.observed = observed
    return Explained(operator, torch.zeros(batch, *shape))


def off(shape, *residuals):
    """Return images whose every element misses the measurement by so many standard deviations of the noise."""
    return torch.stack([torch.full(shape, NOISE * residual) for residual in residuals])


def chance(count):
    return sqrt(1 + 5 * sqrt(2 / count))


def test_a_large_image_may_miss_by_thirty_percent(scaled_operator):
    shape = (3, 48, 48)
    assert chance(3 * 48 * 48) < 1.3
    watch = explained(scaled_operator, shape, 2)
    (told,) = watch.doubts(off(shape, 1.295, 1.305), torch.tensor([True, True]), *WHERE)
    assert (told.sample, told.level, told.levels, told.sigma, told.cause) == (1, *WHERE, "residual")
    assert told.size == pytest.approx(1.305, rel=1e-5)
    assert "sampler.budget" in told.advice


@pytest.mark.parametrize(("observed", "count"), [(None, 16), ("half", 8)])
def test_a_small_image_may_miss_by_what_chance_allows(scaled_operator, observed, count):
    shape = (1, 4, 4)
    mask = None if observed is None else torch.tensor([1.0, 0.0]).repeat(8).reshape(shape)
    watch = explained(scaled_operator, shape, 2, mask)
    line = chance(count)
    told = watch.doubts(off(shape, 0.99 * line, 1.01 * line), torch.tensor([True, True]), *WHERE)
    assert [failure.sample for failure in told] == [1]


def test_the_dead_are_not_doubted(scaled_operator):
    shape = (1, 8, 8)
    watch = explained(scaled_operator, shape, 2, multimodal=True)
    watch.see(off(shape, 9.0, 9.0))
    (told,) = watch.doubts(off(shape, 9.0, 9.0), torch.tensor([False, True]), *WHERE)
    assert told.sample == 1


def test_a_mode_that_no_level_explains_is_wrong(scaled_operator):
    shape, alive = (1, 8, 8), torch.tensor([True, True, True])
    line = chance(64)
    watch = explained(scaled_operator, shape, 3, multimodal=True)
    watch.see(off(shape, 1.01 * line, 0.99 * line, 3.0))
    watch.see(off(shape, 2.0, 2.0, torch.nan))
    told = watch.doubts(off(shape, 1.01 * line, 1.5 * line, 1.0), alive, *WHERE)
    assert [(failure.sample, failure.cause) for failure in told] == [
        (0, "mode"),
        (2, "mode"),
        (1, "residual"),
    ]
    assert [failure.size for failure in told] == pytest.approx([1.01 * line, 3.0, 1.5 * line], rel=1e-5)
    assert f"{line:.3f}" in told[0].advice


def test_an_operator_with_one_mode_is_judged_by_its_result(scaled_operator):
    shape = (1, 8, 8)
    watch = explained(scaled_operator, shape)
    watch.see(off(shape, 9.0))
    assert watch.doubts(off(shape, 1.0), torch.tensor([True]), *WHERE) == []
