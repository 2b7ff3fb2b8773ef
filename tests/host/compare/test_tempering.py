"""Samples by tempering against a closed form and against weighted draws of the prior."""

from __future__ import annotations

import pytest
import torch

from daps_kit.compare import tempering
from daps_kit.compare.mixture import MixtureOfGaussians
from daps_kit.compare.posteriors import known_posterior
from daps_kit.compare.tempering import Tempered


@pytest.mark.parametrize("name", [pytest.param("bipsda-low", marks=pytest.mark.slow), "bipsda-high"])
def test_samples_are_those_of_the_closed_form(name: str) -> None:
    known = known_posterior(name, 1)
    assert isinstance(known.prior, MixtureOfGaussians)
    x, exact = Tempered(known.prior, known.operator, known.y, 0).pool, known.exact(20_000, 0)
    std = exact.std(0)
    assert ((x.mean(0) - exact.mean(0)) / std).abs().max() < 0.08
    torch.testing.assert_close(x.std(0) / std, torch.ones(10).double(), atol=0.06, rtol=0)


@pytest.mark.parametrize("name", ["bipsda-phase", "bipsda-xray"])
def test_samples_are_those_of_weighted_draws_of_the_prior(name: str) -> None:
    known = known_posterior(name, 0)
    assert isinstance(known.prior, MixtureOfGaussians)
    drawn = known.prior.draw(500_000, torch.Generator().manual_seed(1))
    w = known.operator.log_likelihood(drawn[:, None, None], known.y).softmax(0)
    assert 1 / w.square().sum() > 1000
    mean = w @ drawn
    std = (w @ (drawn - mean).square()).sqrt()
    x = known.exact(40_000, 0)
    assert ((x.mean(0) - mean) / std).abs().max() < 0.12
    torch.testing.assert_close(x.std(0) / std, torch.ones(10).double(), atol=0.08, rtol=0)
    assert (x.mean(1) < 0).double().mean() == pytest.approx(float(w[drawn.mean(1) < 0].sum()), abs=0.06)


def test_samples_repeat_with_their_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempering, "PARTICLES", 200)
    known, again = known_posterior("bipsda-xray", 1), known_posterior("bipsda-xray", 1)
    assert torch.equal(known.exact(5, 3), again.exact(5, 3))
