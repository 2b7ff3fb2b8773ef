"""Samples of measurements in memory: in batches of any size, and with their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.contracts import Failure, KernelInfo, Operator, Prior, RandomStreams, Sampler, Step
from daps_kit.random import stream_seed
from daps_kit.runs.sampling import Measured, sample_all

SHAPE = (1, 2, 2)


class Echo(Sampler):
    """Returns y plus noise of each stream; samples whose y is large are lost. Remembers the sizes of its batches."""

    def __init__(self, together: bool = False) -> None:
        self.together, self.sizes = together, list[int]()

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        self.sizes.append(len(y))
        x = y + streams.normal(SHAPE)
        failed = y.flatten(1).amax(1) > 2
        failures = tuple(Failure(b, 0, 1, 1.0, "diverged") for b in failed.nonzero().flatten().tolist())
        yield Step(0, 1, 1.0, x, x, x, failed, KernelInfo(), failures=failures)


def measured(y: Tensor, sigmas: tuple[float, ...] = (0.1, 0.1, 0.1), *, single: bool = False) -> Measured:
    """Return measurements with noise of some standard deviations, an operator for each."""
    sections = [{"use": "identity", "noise": {"use": "gaussian", "sigma": s}} for s in sigmas[: len(y)]]
    operators = [daps_kit.build("operator", section, shape=SHAPE) for section in sections]
    return Measured(operators, y, single)


def prior() -> Prior:
    return daps_kit.build("prior", {"use": "gaussian", "std": 0.5})


@pytest.mark.parametrize(
    ("size", "together", "sizes"),
    [(None, False, [6]), (4, False, [4, 2]), (1, False, [1] * 6), (5, True, [4, 2]), (1, True, [2, 2, 2])],
)
def test_batches_of_any_size_give_the_same(size: int | None, together: bool, sizes: list[int]) -> None:
    y = torch.linspace(-1, 1, 12).reshape(3, *SHAPE)
    sampler = Echo(together)
    found = sample_all(sampler, prior(), measured(y), 2, 9, size)
    assert sampler.sizes == sizes
    for b in range(3):
        for run in range(2):
            noise = RandomStreams([stream_seed(9, "sampler", b, run)]).normal(SHAPE)[0]
            assert torch.equal(found.samples[b, run], y[b] + noise)


def test_operators_with_noise_of_their_own_are_not_joined() -> None:
    y, sampler, sigmas = torch.zeros(3, *SHAPE), Echo(), (0.1, 0.1, 0.4)
    found = sample_all(sampler, prior(), measured(y, sigmas), 2, 9)
    assert sampler.sizes == [4, 2]
    for b, sigma in enumerate(sigmas):
        # What is left of an identity is what was added, in standard deviations of its own noise.
        added = (found.samples[b] - y[b]).square().mean((1, 2, 3)).sqrt()
        torch.testing.assert_close(found.residuals[b], added / sigma, rtol=1e-4, atol=0)


@pytest.mark.parametrize("single", [False, True])
def test_a_lost_sample_is_called_by_its_number_where_it_was_asked_for(single: bool) -> None:
    y = (
        torch.full((1, *SHAPE), 3.0)
        if single
        else torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1).expand(2, *SHAPE)
    )

    def ask() -> object:
        return sample_all(Echo(), prior(), measured(y, single=single), 1, 0)

    with pytest.warns(RuntimeWarning) as caught:
        ask()
    assert str(caught[0].message).startswith("sample 1: lost" if single else "measurement 2, sample 1: lost")
    assert caught[0].filename == __file__


def test_pictures_are_of_each_measurement() -> None:
    y = torch.linspace(-1, 1, 8).reshape(2, *SHAPE)
    found = sample_all(Echo(), prior(), measured(y), 1, 0)
    assert "data:image/png;base64," in found._repr_html_()
    assert found[1].measurement.equal(y[1])


class Angles(Sampler):
    """Finds the angle 179 of even samples and 1 of others."""

    infers = True

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        x, nobody = torch.zeros(len(y), 1, 8, 8), torch.zeros(len(y), dtype=torch.bool)
        angles = torch.tensor([[179.0, 1.0][b % 2] for b in range(len(y))])[:, None]
        yield Step(0, 1, 1.0, x, x, x, nobody, KernelInfo(), parameters=angles)


def test_angles_are_told_on_their_circle() -> None:
    section = {"use": "linear_motion_blur", "length": 3, "angle": {"unknown": [0, 180]}}
    operator = daps_kit.build("operator", section, shape=(1, 8, 8))
    found = sample_all(Angles(), prior(), Measured([operator], torch.zeros(1, 1, 8, 8), True), 3, 0)
    assert found.parameters["angle"].tolist() == [179, 181, 179]
    assert "angle 179.7 ± 1.2" in repr(found)
