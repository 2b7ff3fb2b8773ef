"""The density of a misfit by eigenvalues, against matrices, and against quadrature where a factor of them is unknown."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from daps_samplers.spectrum import COMMON, OWN, Spectrum

V = torch.tensor([0.02, 0.05, 0.1], dtype=torch.float64)


def drawn(size: int, kappa: float = 1.0, v: float = 0.05, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues from 1e-4 to 10, and squares of what has them times kappa, and v, for variances."""
    values = torch.logspace(-4, 1, size, dtype=torch.float64)
    normal = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values, (kappa * values + v) * normal.square()


def test_it_is_the_density_of_a_normal_distribution() -> None:
    values, energy = drawn(20)
    found = Spectrum(values, energy, torch.ones(20)).log(V)
    for log, v in zip(found, V, strict=True):
        law = scipy.stats.multivariate_normal(np.zeros(20), np.diag(values.numpy() + float(v)))
        constant = -10 * np.log(2 * np.pi)
        assert float(log) + constant == pytest.approx(law.logpdf(energy.sqrt().numpy()))


def moments(logs: torch.Tensor, grid: torch.Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of log v on a grid that is even in it."""
    weights, at = logs.softmax(0), grid.log()
    mean = (weights * at).sum()
    return float(mean), float((weights * (at - mean).square()).sum().sqrt())


@pytest.mark.parametrize("kappa", [0.3, 1.0, 4.0])
def test_factors_are_integrated_out(kappa: float) -> None:
    values, energy = drawn(300, kappa)
    grid = torch.logspace(-2.2, -0.3, 200, dtype=torch.float64)
    groups = (torch.arange(300) >= 150).long()
    found = Spectrum(values, energy, torch.ones(300), average=True, groups=groups).log(grid)
    factors = np.linspace(-4, 4, 81)
    parts = [
        torch.stack(
            [Spectrum(values[part] * np.exp(c), energy[part], torch.ones(150)).log(grid) for c in factors]
        )
        for part in (groups == 0, groups == 1)
    ]
    law = scipy.stats.multivariate_normal([0, 0], COMMON**2 + OWN**2 * np.eye(2))
    prior = torch.from_numpy(law.logpdf(np.stack(np.meshgrid(factors, factors, indexing="ij"), -1)))
    exact = (parts[0][:, None] + parts[1][None] + prior[:, :, None]).flatten(0, 1).logsumexp(0)
    (mean, std), (ours, own) = moments(exact, grid), moments(found, grid)
    assert ours == pytest.approx(mean, abs=0.1 * std)
    assert own == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize("kappa", [1 / 3, 3.0])
def test_what_is_amiss_with_an_average_is_not_booked_on_the_noise(kappa: float) -> None:
    values, energy = drawn(6000, kappa)
    grid = torch.logspace(-2, 0, 401, dtype=torch.float64)
    ones = torch.ones(6000, dtype=torch.float64)
    best = {
        average: float(grid[int(Spectrum(values, energy, ones, average=average).log(grid).argmax())])
        for average in (False, True)
    }
    assert best[True] == pytest.approx(0.05, rel=0.1)
    assert abs(best[False] / 0.05 - 1) > 0.1


def test_eigenvalues_that_are_nearly_the_same_are_taken_for_one() -> None:
    values, energy = drawn(6000)
    whole = Spectrum(values, energy, torch.ones(6000))
    classes = Spectrum(values, energy, torch.ones(6000), average=True)
    assert len(classes.values) < 200
    assert torch.allclose(classes.exact(V).diff(), whole.log(V).diff(), atol=1.5, rtol=0.01)


def test_the_most_likely_factors_give_the_same_density() -> None:
    values, energy = drawn(400, 3.0)
    whole = Spectrum(values, energy, torch.ones(400), average=True)
    for v in V:
        factors, volume = whole.factors(float(v))
        exact = Spectrum(values * factors, energy, torch.ones(400)).log(v[None])
        assert float(exact) + volume == pytest.approx(float(whole.log(v[None])), abs=0.5)
        assert 2 < float(factors[values > 1].log().mean().exp()) < 4.5


def test_factors_are_drawn_around_the_most_likely_by_what_is_known_of_them() -> None:
    values, energy = drawn(4000, 3.0)
    spectrum = Spectrum(values, energy, torch.ones(4000), average=True)
    normal = torch.randn(400, spectrum.free, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logs = torch.stack([spectrum.drawn(0.05, each) for each in normal]).log()
    best = spectrum.factors(0.05)[0].log()
    assert logs.shape == (400, 4000)
    for place in (0, -1):
        std = float(logs[:, place].std())
        assert abs(float(logs[:, place].mean() - best[place])) < 4 * std / 400**0.5
    # Of large eigenvalues as many numbers tell as are near; of those below the noise the prior alone does.
    assert float(logs[:, -1].std()) < 0.2
    assert float(logs[:, 0].std()) > OWN
