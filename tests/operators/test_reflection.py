"""Reflected borders against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from daps_operators.reflection import fold, reflect, reflected_indices
from tests.operators.inputs import image


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("border", [(0, 0), (1, 1), (2, 5), (9, 9), (31, 7)])
def test_reflection_and_its_adjoint(n, border):
    mirrored = np.pad(np.arange(n), border, mode="reflect") if n > 1 else np.zeros(1 + sum(border))
    np.testing.assert_array_equal(reflected_indices(n, border), mirrored)
    x = image(1, 1, n, 12)
    reflected = reflect(x, border, (3, 2))
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), border, (3, 2)), mode="reflect" if n > 1 else "edge")
    if n > 1:
        np.testing.assert_array_equal(reflected, expected)
    y = image(*reflected.shape, seed=1)
    folded = fold(y, border, (3, 2))
    assert (reflected * y).sum().item() == pytest.approx((x * folded).sum().item(), rel=1e-12)
