"""Ranks and what is made of them: by hand, and of draws whose law is known."""

from __future__ import annotations

import math

import pytest
import torch

from daps_kit.coverage.ranks import (
    coverage,
    quantities,
    rank_shares,
    ranks,
    spread_skill,
    tarp_ranks,
    widening,
)
from daps_kit.runs.ensemble import moments, spread_scores


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ranks_by_hand() -> None:
    samples = torch.tensor([[0.0, 5.0], [1.0, 3.0], [2.0, 4.0]])
    found = ranks(samples, torch.tensor([1.5, 2.5]))
    assert found.tolist() == [2, 0]
    assert rank_shares(found, 3).tolist() == [0.5, 0, 0.5, 0]


def test_what_is_ranked() -> None:
    x = normal(0, 2, 3, 16, 24)
    found = quantities(x)
    assert {key: value.shape[1] for key, value in found.items()} == {
        "pixels": 1152,
        "blocks": 18,
        "projections": 64,
    }
    assert found["blocks"][1, 7] == pytest.approx(float(x[1, 1, :8, 8:16].mean()))
    # A projection of white noise is standard normal noise over the root of its size, which is taken out.
    assert float(quantities(normal(1, 400, 1, 8, 8))["projections"].std()) == pytest.approx(1, abs=0.05)
    assert "blocks" not in quantities(x[..., :7, :])


def test_nearness_to_references_by_hand() -> None:
    samples = torch.tensor([1.0, -2.0, 4.0]).reshape(3, 1, 1, 1)
    references = torch.tensor([0.0, 3.0, -9.0]).reshape(3, 1, 1, 1)
    assert tarp_ranks(samples, torch.tensor(2.5).reshape(1, 1, 1), references).tolist() == [2, 0, 2]


def test_exchangeable_truths_have_every_rank_equally_often_and_narrow_samples_do_not() -> None:
    runs, tables, narrow, whole = 9, [], [], []
    for seed in range(40):
        x = normal(seed, runs + 1, 1, 12, 12)
        tables.append(rank_shares(ranks(x[1:].flatten(1), x[0].flatten()), runs))
        narrow.append(rank_shares(ranks(0.7 * x[1:].flatten(1), x[0].flatten()), runs))
        whole.append(rank_shares(tarp_ranks(x[1:], x[0], normal(1000 + seed, 30, 1, 12, 12)), runs))
    for table, count in ((tables, 40 * 144), (whole, 40)):
        right = coverage(table, count)
        assert right.due == pytest.approx([0.8, 0.6, 0.4, 0.2])
        assert all(abs(right.deviation(k)) < 3 for k in (1, 2, 3, 4))
        assert sum(right.shares) == pytest.approx(1)
        off = [(s - 0.1) / e for s, e in zip(right.shares, right.errors, strict=True)]
        assert max(map(abs, off)) < 4
    few = coverage(narrow, 40 * 144)
    assert few.deviation(1) < -10
    # P(|t| < .7 max of 9): by integration over the law of the extremes, .8 becomes .665.
    t = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    below = torch.special.ndtr(t / 0.7)
    exact = torch.trapezoid((1 - below**9 - (1 - below) ** 9) * torch.exp(-t * t / 2), t) / math.sqrt(
        2 * math.pi
    )
    assert few.covered[0] == pytest.approx(float(exact), abs=4 * few.covered_errors[0])


def test_images_that_agree_by_chance_are_not_taken_for_certainty() -> None:
    table = [torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)] * 3
    found = coverage(table, 3)
    assert found.covered == [1.0]
    assert found.covered_errors[0] == pytest.approx(math.sqrt(0.25 / 3))


def test_spread_is_error_in_every_group_of_right_samples() -> None:
    sd = torch.linspace(0.1, 1.0, 4000, dtype=torch.float64)
    draws = [sd * normal(seed, 20, 4000) for seed in range(12)]
    groups = spread_skill([x[1:] for x in draws], [x[0] for x in draws])
    assert len(groups) == 8
    assert groups == sorted(groups)
    for spread, error in groups:
        assert spread == pytest.approx(error, rel=0.06)
    for spread, error in spread_skill([x[1:] / 2 for x in draws], [x[0] for x in draws]):
        assert spread < 0.6 * error


def test_intervals_are_widened_to_what_is_due() -> None:
    """Samples that are half as wide as they should be, for many samples about a mean that is known."""
    truths = [normal(seed, 6000) for seed in range(2)]
    samples = [0.5 * normal(100 + seed, 199, 6000) for seed in range(2)]
    assert widening(samples, truths, 10) == pytest.approx(2, rel=0.03)
    found = [spread_scores(x, t, 2.0) for x, t in zip(samples, truths, strict=True)]
    for each in found:
        assert each is not None
        assert each["coverage"] == pytest.approx(0.9, abs=0.015)
    lows = [moments(samples[0], factor)["q05"] for factor in (1.0, 2.0)]
    mean = samples[0].mean(0)
    torch.testing.assert_close(lows[1] - mean, 2 * (lows[0] - mean))
