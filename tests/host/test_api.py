"""The toolkit from Python: build and sample, against the closed form of a Gaussian posterior."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.contracts import Failure, KernelInfo, Operator, Prior, RandomStreams, Sampler, Step
from daps_kit.errors import RecipeError, UserError
from daps_kit.random import stream_seed

SHAPE = (1, 2, 2)


def gaussian(**settings: object) -> Prior:
    return daps_kit.build("prior", {"use": "gaussian", "mean": 0.2, "std": 0.5, **settings})


def identity(sigma: float = 0.3, shape: tuple[int, int, int] = SHAPE) -> Operator:
    return daps_kit.build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": sigma}}, shape=shape
    )


def test_build_gives_what_the_settings_say() -> None:
    operator = daps_kit.build(
        "operator",
        {"use": "gaussian_blur", "kernel_size": 5, "intensity": 1},
        shape=[3, 8, 9],
        seed=0,
        device="cpu",
    )
    assert operator.shape == (3, 8, 9)
    assert operator.forward(torch.zeros(2, 3, 8, 9)).shape == (2, 3, 8, 9)
    assert operator.noise.dispersion == pytest.approx(0.05**2)
    assert daps_kit.build("kernel", {"use": "langevin", "steps": 7}).steps == 7
    assert isinstance(daps_kit.build("sampler", {"use": "daps"}), Sampler)


def test_build_draws_from_the_seed() -> None:
    section = {"use": "inpainting", "mask": "random"}
    first, again, other = (
        daps_kit.build("operator", section, shape=(1, 16, 16), seed=seed).state() for seed in (0, 0, 1)
    )
    assert first
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("operatr", {}), r"unknown kind 'operatr'; there are operator, noise, prior, kernel, sampler.*; did you mean 'operator'\?"),
        (("operator", {"use": "identity"}), r"an operator needs shape=\(channels, height, width\)"),
        (("kernel", {"use": "langevim"}), r"kernel.use: unknown kernel 'langevim'; .*did you mean 'langevin'\?"),
        (("kernel", {"use": "langevin", "steps": 0, "lrr": 1}), r"(?s)steps: expected at least 1.*|lrr: unknown key"),
    ],
)  # fmt: skip
def test_build_says_what_is_wrong(arguments: tuple[str, dict[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        daps_kit.build(*arguments)  # type: ignore[call-overload]


def test_build_lists_all_problems() -> None:
    with pytest.raises(RecipeError) as caught:
        daps_kit.build("kernel", {"use": "langevin", "steps": 0, "lrr": 1})
    assert len(caught.value.problems) == 2
    with pytest.raises(UserError, match=r"shape must be \(channels, height, width\), not \(8, 8\)"):
        daps_kit.build("operator", {"use": "identity"}, shape=(8, 8))


DAPS = {  # with the exact p(x0 | x_t) of a Gaussian prior, so that nothing but the step size is approximate
    "use": "daps",
    "annealing": {"use": "edm", "levels": 20, "sigma_max": 10, "sigma_min": 0.02},
    "ode": {"use": "edm", "steps": 0},
    "spread": "calibrated",
    "kernel": {"use": "langevin", "steps": 60, "lr": 5e-3, "lr_min_ratio": 0.02},
}


def test_samples_follow_the_known_posterior() -> None:
    """N(m, s^2) prior, y = x + N(0, t^2): mean (m t^2 + y s^2) / (s^2 + t^2), variance s^2 t^2 / (s^2 + t^2)."""
    m, s, t = 0.2, 0.5, 0.3
    shape = (1, 16, 16)
    y = torch.tensor([0.8, -0.4]).reshape(2, 1, 1, 1).expand(2, *shape).contiguous()
    samples = daps_kit.sample(gaussian(), identity(t, shape), y, sampler=DAPS, runs=8, seed=1)
    assert samples.shape == (2, 8, *shape)
    mean = (m * t**2 + torch.tensor([0.8, -0.4]) * s**2) / (s**2 + t**2)
    std = s * t / (s**2 + t**2) ** 0.5
    values = samples.flatten(
        1
    )  # 2048 independent numbers a measurement: the standard error of the mean is 0.0057
    torch.testing.assert_close(values.mean(1), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(values.std(1), torch.full((2,), std), atol=0.03, rtol=0)


def test_a_sample_depends_on_its_own_numbers_alone() -> None:
    y = torch.linspace(-0.5, 0.5, 12).reshape(3, *SHAPE)
    short = {**DAPS, "annealing": {"use": "edm", "levels": 3}, "kernel": {"use": "langevin", "steps": 2}}
    arguments = {"sampler": short, "runs": 2, "seed": 5}
    whole = daps_kit.sample(gaussian(), identity(), y, **arguments)
    for size in (1, 4, 5):
        parts = daps_kit.sample(gaussian(), identity(), y, batch_size=size, **arguments)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    assert torch.equal(daps_kit.sample(gaussian(), identity(), y, **arguments), whole)
    torch.testing.assert_close(
        daps_kit.sample(gaussian(), identity(), y[:1], **arguments), whole[:1], atol=1e-6, rtol=0
    )
    other = daps_kit.sample(gaussian(), identity(), y, **{**arguments, "seed": 6})
    assert (other - whole).abs().min() > 1e-6


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    daps_kit.sample(
        gaussian(),
        identity(),
        torch.zeros(1, *SHAPE),
        sampler={**DAPS, "annealing": {"use": "edm", "levels": 2}},
    )
    assert torch.equal(torch.get_rng_state(), before)


class _Echo(Sampler):
    """Returns y plus the first number of each stream; the samples whose y is large are lost."""

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        x = operator.forward(y) + streams.normal(SHAPE)
        failed = y.flatten(1).amax(1) > 10
        failures = [
            Failure(b, 0, 1, 1.0, "diverged", "take smaller ones")
            for b in failed.nonzero().flatten().tolist()
        ]
        yield Step(0, 1, 1.0, x, x, x, failed, KernelInfo(), failures=tuple(failures))


def test_streams_are_named_by_measurement_and_run() -> None:
    samples = daps_kit.sample(gaussian(), identity(), torch.zeros(2, *SHAPE), sampler=_Echo(), runs=3, seed=9)
    for b in range(2):
        for run in range(3):
            expected = RandomStreams([stream_seed(9, "sampler", b, run)]).normal(SHAPE)[0]
            assert torch.equal(samples[b, run], expected)


def test_a_lost_sample_is_not_a_number_and_said() -> None:
    y = torch.zeros(2, *SHAPE)
    y[1] = 100.0
    with pytest.warns(
        RuntimeWarning,
        match=r"measurement 1, run 0; measurement 1, run 1: lost at level 1 of 1 .*the chain diverged; take smaller ones",
    ):
        samples = daps_kit.sample(gaussian(), identity(), y, sampler=_Echo(), runs=2)
    assert torch.isfinite(samples[0]).all()
    assert torch.isnan(samples[1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        daps_kit.sample(gaussian(), identity(), y[:1], sampler=_Echo())


def test_an_operator_for_each_measurement() -> None:
    section = {"use": "inpainting", "mask": "random", "mask_prob_range": [0.5, 0.51]}
    operators = [daps_kit.build("operator", section, shape=SHAPE, seed=seed) for seed in range(3)]
    y = torch.ones(3, *SHAPE)
    for size in (None, 2):
        samples = daps_kit.sample(gaussian(), operators, y, sampler=_Echo(), runs=2, batch_size=size)
        for b, operator in enumerate(operators):
            noise = RandomStreams([stream_seed(0, "sampler", b, 1)]).normal(SHAPE)
            assert torch.equal(samples[b, 1], (operator.forward(y[b : b + 1]) + noise)[0])
    with pytest.raises(UserError, match="3 measurements need one operator, or as many, not 2"):
        daps_kit.sample(gaussian(), operators[:2], y, sampler=_Echo())


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"batch_size": 0}])
def test_sample_refuses_nothing_to_do(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        daps_kit.sample(gaussian(), identity(), torch.zeros(1, *SHAPE), sampler=_Echo(), **wrong)
