"""Draws behind piecewise linear functions against quadrature, in far tails, and moved by rounding alone."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from daps_samplers.pieces import _quantile, draw

FUNCTIONS = {
    "clip": (lambda x: (2 * x).clamp(-1, 1), (-0.5, 0.5)),
    "one kink": (lambda x: torch.where(x < 0.1, x, 0.1 + 3 * (x - 0.1)), (0.1,)),
    "back and forth": (lambda x: (x - 0.2).abs() - (x + 0.4).abs() + x / 2, (-0.4, 0.2)),
}
SIGMA = 0.1


def problems(count, seed=0):
    """Return measurements, means and variances of the Gaussian, and normal numbers."""
    draws = torch.Generator().manual_seed(seed)
    y, u, n = 0.9 * torch.randn(3, count, generator=draws, dtype=torch.float64)
    return y, u, 10 ** (-4 * torch.rand(count, generator=draws, dtype=torch.float64)), 1.5 * n


@pytest.mark.parametrize("name", FUNCTIONS)
def test_distribution_functions(name):
    forward, kinks = FUNCTIONS[name]
    y, u, d, n = problems(40)
    found = draw(forward, kinks, y, SIGMA**2, u, d, n)
    line = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for one in range(len(y)):
        fine = torch.cat((line, u[one] + d[one].sqrt() * line, SIGMA * line, found[one : one + 1]))
        grid = torch.cat((fine, torch.tensor(kinks))).unique()
        log = -(forward(grid) - y[one]).square() / (2 * SIGMA**2) - (grid - u[one]).square() / (2 * d[one])
        mass = torch.cumulative_trapezoid((log - log.max()).exp(), grid)
        below = mass[grid[1:] == found[one]] / mass[-1]
        assert float(below) == pytest.approx(norm.cdf(float(n[one])), abs=2e-6)


def test_tails_beyond_double_precision():
    """The measurement says that x lies behind a kink 1,000 standard deviations off: an exponential tail."""
    n = torch.linspace(-4, 4, 81, dtype=torch.float64)
    found = draw(
        lambda x: torch.where(x < 0.1, -100 * (x - 0.1), 0), (0.1,),
        torch.zeros_like(n), 1e-16, torch.full_like(n, -0.9), torch.full_like(n, 1e-6), n,
    )  # fmt: skip
    assert bool((found[n > -3] >= 0.1).all())
    beyond = (found - 0.1) * 1000 * 1000  # in units of the tail's scale, 1e-6
    torch.testing.assert_close(beyond[n > -3], -torch.special.log_ndtr(-n)[n > -3], rtol=1e-2, atol=1e-3)
    p = -torch.logspace(-6, 8, 200, dtype=torch.float64)
    torch.testing.assert_close(torch.special.log_ndtr(_quantile(p)), p, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rounding_moves_a_draw_by_rounding(name):
    forward, kinks = FUNCTIONS[name]
    y, u, d, n = problems(20_000)
    found = draw(forward, kinks, y, SIGMA**2, u, d, n)
    y, u, d = (value * (1 + 1e-6 * torch.randn_like(value)) for value in (y, u, d))
    moved = (draw(forward, kinks, y, SIGMA**2, u, d, n) - found).abs()
    assert 0 < float(moved.max()) < 2e-3
    assert float(moved.mean()) < 2e-6


def test_what_is_not_a_number_is_none():
    y = torch.tensor([0.3, 0.3, float("nan")])
    u = torch.tensor([0.1, float("nan"), 0.1])
    forward, kinks = FUNCTIONS["clip"]
    found = draw(forward, kinks, y, 0.01, u, torch.ones(3), torch.zeros(3))
    assert found.isfinite().tolist() == [True, False, False]
