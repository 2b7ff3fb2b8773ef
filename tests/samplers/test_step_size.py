"""Step sizes over the levels."""

from __future__ import annotations

import pytest

from daps_samplers.step_size import StepSize


def test_step_sizes():
    full, published = StepSize(2e-4, 0.01), StepSize(2e-4, 0.01, reach_min=False)
    assert full.at(0, 200) == published.at(0, 200) == 2e-4
    assert full.at(199, 200) == pytest.approx(2e-6)
    assert published.at(199, 200) == pytest.approx(2e-4 * (1 - 0.99 * 199 / 201))
    assert full.at(0, 1) == 2e-4
