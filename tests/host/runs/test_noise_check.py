"""What samples say of the noise: exact posteriors, whose ratio is known in closed form, and operators that are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.contracts import GaussianNoise, Operator, PoissonNoise
from daps_kit.runs.noise_check import check_noise

SHAPE = (3, 32, 32)


class Identity(Operator):
    def forward(self, x: Tensor) -> Tensor:
        return x


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def posterior(y: Tensor, prior_sd: float | Tensor, sigma: float, runs: int) -> Tensor:
    """Return draws of N(0, prior_sd^2) given y = x + N(0, sigma^2)."""
    variance = torch.as_tensor(prior_sd**2)
    gain = variance / (variance + sigma**2)
    return gain * y + (gain * sigma**2).sqrt() * normal(7, runs, *SHAPE)


@pytest.mark.parametrize("runs", [2, 4, 30])
@pytest.mark.parametrize(("true", "cause"), [(0.2, ""), (0.05, "overstated"), (0.8, "understated")])
def test_the_ratio_of_exact_posteriors(runs: int, true: float, cause: str) -> None:
    """With prior variance v everywhere, ratio^2 = (v + true^2) / (v + stated^2): 1 where the noise is as stated."""
    prior_sd, stated = 0.1, 0.2
    y = prior_sd * normal(1, *SHAPE) + true * normal(2, *SHAPE)
    found = check_noise(Identity(SHAPE, GaussianNoise(stated)), posterior(y, prior_sd, stated, runs), y[None])
    assert found is not None
    exact = math.sqrt((prior_sd**2 + true**2) / (prior_sd**2 + stated**2))
    assert found.ratio == pytest.approx(exact, rel=0.05)
    assert found.level == pytest.approx(found.ratio * stated)
    assert (found.cause, bool(found.text)) == (cause, bool(cause))
    if cause:
        assert f"about {found.level:.2g}, and operator.noise says 0.2" in found.text


@pytest.mark.parametrize(("prior_sd", "cause"), [(0.05, "overstated"), (0.3, "")])
def test_the_more_is_followed_the_less_is_called_overstated(prior_sd: float, cause: str) -> None:
    """A ratio of 0.82 by a mean that is too near y, as the error of a prior makes it."""
    y = (prior_sd**2 + 0.2**2) ** 0.5 * normal(1, *SHAPE)
    samples = posterior(y, prior_sd, 0.2, 8)
    middle = samples.mean(0)
    found = check_noise(Identity(SHAPE, GaussianNoise(0.2)), samples + 0.18 * (y - middle), y[None])
    assert found is not None
    assert 0.78 < found.ratio < 0.86
    assert found.cause == cause


class HalfRounded(Identity):
    """Says that the upper half of y tells nothing of the noise."""

    def telling(self, y: Tensor) -> Tensor:
        found = super().telling(y).clone()
        found[..., :16, :] = False
        return found


def test_what_tells_nothing_does_not_count() -> None:
    y = 0.2 * normal(2, *SHAPE)
    y[:, :16] *= 0.1
    samples = posterior(y, 0.05, 0.2, 4)
    plain, half = (
        check_noise(kind(SHAPE, GaussianNoise(0.2)), samples, y[None]) for kind in (Identity, HalfRounded)
    )
    assert plain is not None
    assert half is not None
    assert (plain.cause, half.cause) == ("overstated", "")
    assert half.ratio == pytest.approx(1, rel=0.05)


def test_the_chance_of_the_ratio() -> None:
    """Where the prior leaves nothing open the ratio is the root mean square of n normal numbers."""
    ratios = []
    for seed in range(200):
        y = 0.2 * normal(seed, *SHAPE)
        found = check_noise(Identity(SHAPE, GaussianNoise(0.2)), torch.zeros(2, *SHAPE), y[None])
        assert found is not None
        ratios.append(found.ratio)
    assert float(torch.tensor(ratios).std()) == pytest.approx(found.chance, rel=0.2)
    assert found.chance == pytest.approx(1 / math.sqrt(2 * 3072))


def test_what_is_followed_tells_nothing() -> None:
    """Half of the pixels are wide open: their residual is the stated noise whatever y has."""
    prior_sd = torch.full(SHAPE, 0.01)
    prior_sd[:, :16] = 50.0
    y = prior_sd * normal(1, *SHAPE) + 0.1 * normal(2, *SHAPE)
    samples = posterior(y, prior_sd, 0.2, 8)
    found = check_noise(Identity(SHAPE, GaussianNoise(0.2)), samples, y[None])
    assert found is not None
    residual = float(((samples - y) / 0.2).square().mean().sqrt())
    assert residual == pytest.approx(math.sqrt((1 + 0.25) / 2), rel=0.05)
    assert found.ratio == pytest.approx(0.5, rel=0.05)
    assert found.cause == "overstated"


def test_a_few_entries_and_a_kernel_are_told_from_noise() -> None:
    x = torch.nn.functional.interpolate(normal(0, 1, 3, 8, 8), (32, 32), mode="bicubic")[0].clamp(-1, 1)
    operator = Identity(SHAPE, GaussianNoise(0.05))
    exact = x.expand(3, *SHAPE)
    y = x + 0.05 * normal(1, *SHAPE)
    assert check_noise(operator, exact, y[None]).cause == ""
    assert check_noise(operator, exact, (y + 0.1 * normal(3, *SHAPE))[None]).cause == "understated"
    dead = y.masked_fill(normal(4, *SHAPE) > 2, 0.0)
    assert check_noise(operator, exact, dead[None]).cause == "operator"
    operator.observed = torch.ones(1, 1, *SHAPE[1:])
    assert check_noise(operator, exact, dead[None]).cause == "mask"
    assert check_noise(operator, exact, torch.roll(y, (2, 2), (-2, -1))[None]).cause == "operator"


def test_only_what_is_seen_counts() -> None:
    operator = daps_kit.build(
        "operator",
        {"use": "inpainting", "mask": "random", "noise": {"use": "gaussian", "sigma": 0.1}},
        shape=SHAPE,
    )
    y = operator.project(0.1 * normal(0, 1, *SHAPE))
    found = check_noise(operator, torch.zeros(2, *SHAPE), y)
    assert found is not None
    assert found.ratio == pytest.approx(1, abs=5 * found.chance)
    assert found.chance == pytest.approx(1 / math.sqrt(2 * float(operator.observed.expand_as(y).sum())))


def test_samples_of_other_modes_are_told_and_do_not_count() -> None:
    many = Identity(SHAPE, GaussianNoise(0.1))
    many.multimodal = True
    y = 0.1 * normal(0, 1, *SHAPE)
    x = torch.zeros(4, *SHAPE)
    assert check_noise(many, x, y).cause == ""
    x[2] += 0.05
    found = check_noise(many, x, y)
    assert (found.cause, found.apart, found.ratio) == ("modes", 1, pytest.approx(1, abs=0.05))
    assert found.text.startswith("1 of its samples explain the measurement less well")
    assert check_noise(many, torch.cat([x[:1], x[2:3]]), y) is None


def test_where_nothing_can_be_said() -> None:
    y, x = torch.zeros(1, *SHAPE), torch.zeros(3, *SHAPE)
    assert check_noise(Identity(SHAPE, PoissonNoise(30.0)), x, y) is None
    assert check_noise(Identity(SHAPE, GaussianNoise(0.1)), x[:1], y) is None
    followed = 0.1 * normal(
        0, 8, *SHAPE
    )  # the prior says nothing, so that samples scatter as the stated noise does
    assert check_noise(Identity(SHAPE, GaussianNoise(0.1)), followed, y) is None
