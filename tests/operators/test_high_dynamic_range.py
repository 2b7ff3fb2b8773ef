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


def test_it_goes_on_straight_where_the_measurement_excludes_a_clip():
    operator = HighDynamicRange((1, 1, 6), NOISE, 2.0)  # noise 0.05: 4 standard deviations are 0.2
    y = torch.tensor([0.0, 0.79, 0.81, -0.79, -0.81, float("nan")]).reshape(1, 1, 1, 6)
    straight = operator.continued(y)
    high, low = torch.full_like(y, 0.7), torch.full_like(y, -0.7)
    assert straight.forward(high).flatten().tolist() == pytest.approx([1.4, 1.4, 1, 1.4, 1.4, 1])
    assert straight.forward(low).flatten().tolist() == pytest.approx([-1.4, -1.4, -1.4, -1.4, -1, -1])
    assert straight.forward_vjp(high)[1](torch.ones_like(y)).flatten().tolist() == [2, 2, 0, 2, 2, 0]
    assert torch.equal(operator.forward(high), torch.ones_like(y))  # the operator itself is as it was
    both = Operator.stack([operator, HighDynamicRange((1, 1, 6), NOISE, 1.0)]).continued(
        torch.cat((y, y + 1))
    )
    assert both.elementwise
    torch.testing.assert_close(both.forward(torch.cat((high, 2 * high)))[:1], straight.forward(high))
    assert both.forward(torch.cat((high, 2 * high)))[1].flatten()[3] == pytest.approx(1.4)


def test_light_saturates_where_it_is_said():
    x = image(2, 3, 8, 9)
    operator = HighDynamicRange((3, 8, 9), NOISE, 2.0, 0.6)
    np.testing.assert_array_equal(operator.forward(x), np.clip(2 * x.numpy(), -1, 0.6))
    straight = operator.continued(torch.full_like(x, 0.1))
    torch.testing.assert_close(straight.forward(x), 2 * x)
    assert float(operator.continued(torch.full_like(x, 0.6)).forward(x).max()) == pytest.approx(0.6)


def test_corners_are_rounded_by_the_noise():
    operator = HighDynamicRange((1, 1, 4001), NOISE, 2.0)
    x = torch.linspace(-0.7, 0.7, 4001, dtype=torch.float64).reshape(1, 1, 1, -1)
    rounded = operator.continued(torch.where(x < 0, -1.0, 1.0))
    y, vjp = rounded.forward_vjp(x)
    slope = vjp(torch.ones_like(x))
    torch.testing.assert_close(slope, Operator.forward_vjp(rounded, x)[1](torch.ones_like(x)))
    assert torch.equal(rounded.jvp(x, 2 * slope), slope * 2 * slope)
    assert torch.equal(rounded.forward(x), y)
    assert float(slope.diff().abs().max()) < 2 * 0.02  # of 2, in steps of 0.0007 of twice the corner's 0.05
    off = (y - operator.forward(x)).abs()
    assert float(off.max()) == pytest.approx(0.05 / 8, rel=0.03)
    assert not float(off[(2 * x.abs() - 1).abs() > 0.025].max()) > 1e-12


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_kinks(scale):
    operator = HighDynamicRange((1, 1, 1), NOISE, scale)
    assert operator.kinks == (-1 / scale, 1 / scale)
    assert HighDynamicRange((1, 1, 1), NOISE, scale, 0.6).kinks == (-1 / scale, 0.6 / scale)
    assert Operator.stack([operator, operator]).kinks == operator.kinks
    assert Operator.stack([operator, HighDynamicRange((1, 1, 1), NOISE, 7.0)]).kinks == ()
