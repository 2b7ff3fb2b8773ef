"""Clipping against numpy, and its derivatives against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daps_kit.contracts import Operator
from daps_operators.high_dynamic_range import HighDynamicRange
from tests.operators.inputs import NOISE, image


@pytest.mark.parametrize("scale", [2.0, 0.5, 7.0])
def test_high_dynamic_range(scale):
    operator = HighDynamicRange((3, 8, 9), NOISE, scale)
    x = image(2, 3, 8, 9)
    x[0, 0, 0, :3] = torch.tensor([1 / scale, -1 / scale, 0.0])  # a derivative at the edge of the clip
    kept = x.clone()
    np.testing.assert_array_equal(operator.forward(x), np.clip(scale * x.numpy(), -1, 1))
    y, vjp = operator.forward_vjp(x)
    by_autograd = Operator.forward_vjp(operator, x)
    v = image(2, 3, 8, 9, seed=1)
    assert torch.equal(y, by_autograd[0])
    assert torch.equal(vjp(v), by_autograd[1](v))
    assert torch.equal(operator.jvp(x, v), Operator.jvp(operator, x, v))
    assert torch.equal(x, kept)
    inside = x.clamp(-0.9 / scale, 0.9 / scale).requires_grad_()
    assert torch.autograd.gradcheck(operator.forward, (inside,))
