"""Affine intensities, against the posterior that pixels have in closed form."""

from __future__ import annotations

import pytest
import torch

from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.runs.draw import draw
from daps_operators import Affine
from daps_priors.exact.gaussian import GaussianPrior
from tests.operators.inputs import build, image

SHAPE = (1, 2, 3)


def test_values_and_derivative():
    x, v = image(2, *SHAPE), image(2, *SHAPE, seed=1)
    operator = build(Affine(scale=1.5, offset=-0.2), SHAPE)
    assert not isinstance(operator, LinearOperator)
    torch.testing.assert_close(operator.forward(x), 1.5 * x - 0.2)
    torch.testing.assert_close(operator.linear_part.forward(x), 1.5 * x)
    torch.testing.assert_close(operator.jvp(x, v), 1.5 * v)
    torch.testing.assert_close(operator.forward_vjp(x)[1](v), 1.5 * v)
    assert isinstance(build(Affine(scale=1.5), SHAPE), LinearOperator)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_samples_are_those_of_the_posterior(offset):
    """Each pixel has N(0, c), is seen as s x + o with noise of variance v: N(s (y - o) / (s^2 + v / c), ...)."""
    from daps_kit.api import build as any_of

    scale, variance, c, count = 1.4, 0.05**2, 0.3**2, 4000
    operator = build(Affine(scale=scale, offset=offset), SHAPE)
    y = 0.4 * image(1, *SHAPE).float() + offset
    prior = GaussianPrior(torch.zeros(SHAPE), std=c**0.5)
    drawn = draw(
        any_of("sampler", {"use": "daps"}), prior, operator, y.expand(count, *SHAPE), range(count)
    ).x0
    weight = scale**2 + variance / c
    mean, spread = scale * (y[0] - offset) / weight, (variance / weight) ** 0.5
    assert float((drawn.mean(0) - mean).abs().max()) < 5 * spread / count**0.5
    assert float(drawn.std(0).mean()) == pytest.approx(spread, rel=0.03)


def test_measurements_have_the_offset():
    y = build(Affine(offset=5.0), SHAPE).measure(image(1, *SHAPE), RandomStreams([0]))
    assert 3.5 < float(y.min()) < float(y.max()) < 6.5
