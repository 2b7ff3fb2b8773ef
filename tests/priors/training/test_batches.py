"""The examples of a step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from daps_priors.training.batches import NoiseLevels
from tests.priors.training.small import examples


def test_noise_levels_have_the_distribution_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform, mix = torch.rand(2, 40000, generator=generator)
    plain = NoiseLevels(log_mean=-0.6, log_std=1.4, uniform=0.0).sigma(uniform, mix).log()
    assert float(plain.mean()) == pytest.approx(-0.6, abs=0.03)
    assert float(plain.std()) == pytest.approx(1.4, rel=0.02)
    flat = NoiseLevels(uniform=1.0).sigma(uniform, mix)
    assert float(flat.min()) >= 0.005
    assert float((flat < 0.7071).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_a_step_depends_on_its_number_alone_and_a_pass_sees_every_image_once() -> None:
    batches = examples()
    first, again = batches.draw(7, 0), examples().draw(7, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(batches.draw(8, 0)[0], first[0])
    rows = [batches._row(index) for index in range(2 * len(batches.images))]
    assert sorted(rows[: len(batches.images)]) == sorted(rows[len(batches.images) :]) == list(range(240))
    assert rows[:240] != rows[240:]


def test_noise_levels_of_a_batch_are_one_of_each_stratum_however_it_is_shared() -> None:
    levels = NoiseLevels(uniform=1.0, minimum=0.01, maximum=100.0)
    for workers in (1, 4):
        batches = replace(examples(workers), levels=levels)
        sigma = torch.cat([batches.draw(3, rank)[1] for rank in range(workers)])
        place = 16 * ((sigma / 0.01).log() / torch.tensor(1e4).log())
        assert sorted(place.floor().int().tolist()) == list(range(16))


def test_a_noisy_image_is_the_image_and_noise_of_its_level() -> None:
    x0, sigma, x = replace(examples(), batch_size=240).draw(0, 0)
    noise = (x - x0) / sigma[:, None, None, None]
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert noise.flatten(1).std(1).mean() == pytest.approx(1, abs=0.01)
