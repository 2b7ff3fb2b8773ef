"""A head fitted to errors whose variance at each place is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from daps_kit.calibration import CalibrationTable
from daps_kit.contracts import Prior
from daps_kit.errors import UserError
from daps_kit.fit_head import Fit, HeadFit, fit_head, measured

SIDE = 16
SMALL, LARGE = 0.01, 0.25
FIT = Fit(steps=60, batch=8, rate=1e-2)


class TwoTones(Prior):
    """Pictures dark on the left and bright on the right, around which bright pixels scatter five times as widely."""

    shape = (1, SIDE, SIDE)
    pattern = torch.where(torch.arange(SIDE) < SIDE // 2, -0.8, 0.8).expand(1, SIDE, SIDE)

    def __init__(self):
        mean = (SMALL + LARGE) / 2
        self.calibration = CalibrationTable(
            torch.tensor([0.01, 10.0]), torch.full((2,), mean), torch.full((2, 1, 12), mean), torch.eye(1), 4
        )

    def denoise(self, x, sigma):
        return self.pattern.expand_as(x)

    def images(self, count):
        spread = torch.where(self.pattern < 0, SMALL, LARGE).sqrt()
        return self.pattern + spread * torch.randn(
            count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
        )


@pytest.mark.slow
def test_it_finds_where_the_error_is_large(tmp_path):
    prior, told, seen = TwoTones(), [], []
    images = prior.images(64)
    head = fit_head(
        prior,
        images[16:],
        FIT,
        tmp_path / "state",
        tell=told.append,
        watch=lambda fit: seen.append((fit.step, fit.rate)),
    )
    assert [step for step, _ in seen] == [*range(1, 61)]
    assert seen[-1][1] == 0 < seen[30][1] < FIT.rate
    assert sum("nats a number better" in line for line in told) == 10
    found = measured(prior, head, images[:16])
    assert found.images == 16
    x = prior.images(2)
    prior.calibration = replace(prior.calibration, local=found)
    c = prior.conditional_covariance(x, 0.5)
    draws = c.sqrt(torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    left, right = (float(part.square().mean()) for part in torch.split(draws, SIDE // 2, -1))
    assert left == pytest.approx(SMALL, abs=0.02)  # the mean of both is 0.13
    assert right == pytest.approx(LARGE, rel=0.3)
    due = math.log((SMALL + LARGE) / 2) / 2 - (math.log(SMALL) + math.log(LARGE)) / 4
    gains = []
    measured(prior, found.head, x, tell=lambda sigma, gain: gains.append(gain))
    assert due / 2 < sum(gains) / len(gains) < due + 0.03


def test_a_fit_goes_on_where_it_was_broken_off(tmp_path):
    prior = TwoTones()
    images = prior.images(8)
    whole, first, second = (HeadFit(prior, images, FIT) for _ in range(3))
    for _ in range(2):
        first.take_step()
    second.load(first.state())
    second.take_step()
    for _ in range(3):
        whole.take_step()
    for a, b in zip(whole.head.parameters(), second.head.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_what_cannot_be_fitted_is_told(tmp_path):
    prior, state = TwoTones(), tmp_path / "state"
    fit_head(prior, prior.images(8), Fit(steps=1, batch=2), state)
    with pytest.raises(UserError, match="another fit"):
        fit_head(prior, prior.images(8), Fit(steps=2, batch=2), state)
