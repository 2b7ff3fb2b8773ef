"""Posteriors that are said to be known are: against dense algebra."""

from __future__ import annotations

import pytest
import torch

from daps_kit.compare.document import POSTERIORS
from daps_kit.compare.levy import Gibbs
from daps_kit.compare.matrix import Matrix
from daps_kit.compare.mixture import MixtureOfGaussians
from daps_kit.compare.posteriors import known_posterior
from daps_kit.errors import UserError
from daps_kit.testing.problems import DenseOperator, Posterior


def test_the_gaussian_is_the_closed_form() -> None:
    known = known_posterior("gaussian", 3)
    prior, operator = known.prior, known.operator
    assert isinstance(prior, MixtureOfGaussians)
    assert isinstance(operator, Matrix)
    dense = DenseOperator(operator.matrix, operator.noise, (1, 1, 32))
    wanted = Posterior.of(prior.means[0], prior.covariances[0], dense, known.y, operator.sigma**2)
    x = known.exact(20_000, 0)
    assert (x.mean(0) - wanted.mean).abs().max() < 0.02
    whitened = wanted.whiten(x)
    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(32).double(), atol=0.06, rtol=0)


@pytest.mark.parametrize("name", [n for n in POSTERIORS if not n.startswith(("mixture-80", "levy"))])
def test_every_name_is_a_task_whose_samples_explain_it(name: str) -> None:
    known, again = known_posterior(name, 1), known_posterior(name, 1)
    assert torch.equal(known.y, again.y)
    assert not torch.equal(known.y, known_posterior(name, 2).y)
    x = known.exact(500, 0)
    assert x.shape == (500, len(known.truth))
    residual = known.operator.residual(x[:, None, None], known.y.expand(500, -1))
    assert float(residual.square().mean().sqrt()) < 3


def test_walks_are_seen_through_operators_with_samples_by_gibbs() -> None:
    known = known_posterior("levy-bernoulli-laplace-sample", 1)
    assert (known.prior.shape, len(known.truth), known.unit) == ((1, 1, 64), 64, known.prior.unit)  # type: ignore[attr-defined]
    assert len(known.y) == len(known.operator.matrix) < 64  # type: ignore[attr-defined]
    assert isinstance(known.exact, Gibbs)


def test_another_name_is_an_error() -> None:
    with pytest.raises(UserError, match="^unknown posterior 'gausian'; there are gaussian, "):
        known_posterior("gausian", 0)
