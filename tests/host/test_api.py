"""The toolkit from Python: build and sample, against the closed form of a Gaussian posterior."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import daps_kit
from daps_kit.contracts import Failure, KernelInfo, Operator, Prior, RandomStreams, Sampler, Step
from daps_kit.errors import RecipeError, UserError
from daps_kit.random import stream_seed
from daps_kit.runs import stein

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
    samples = daps_kit.sample(gaussian(), identity(t, shape), y, sampler=DAPS, runs=8, seed=1).samples
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
    whole = daps_kit.sample(gaussian(), identity(), y, **arguments).samples
    for size in (1, 4, 5):
        parts = daps_kit.sample(gaussian(), identity(), y, batch_size=size, **arguments).samples
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    assert torch.equal(daps_kit.sample(gaussian(), identity(), y, **arguments).samples, whole)
    torch.testing.assert_close(
        daps_kit.sample(gaussian(), identity(), y[:1], **arguments).samples, whole[:1], atol=1e-6, rtol=0
    )
    other = daps_kit.sample(gaussian(), identity(), y, **{**arguments, "seed": 6}).samples
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
        failed = y.flatten(1).amax(1) > 2
        failures = [
            Failure(b, 0, 1, 1.0, "diverged", "take smaller ones")
            for b in failed.nonzero().flatten().tolist()
        ]
        yield Step(0, 1, 1.0, x, x, x, failed, KernelInfo(), failures=tuple(failures))


class _EchoAny(_Echo):
    """The same for images of any shape, none of which is lost."""

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        x = streams.normal(operator.shape)
        yield Step(0, 1, 1.0, x, x, x, torch.zeros(len(y), dtype=torch.bool), KernelInfo())


def test_a_lost_sample_is_not_a_number_and_said() -> None:
    y = torch.zeros(2, *SHAPE)
    y[1] = 3.0
    with pytest.warns(
        RuntimeWarning,
        match=r"measurement 2, sample 1; measurement 2, sample 2: lost at level 1 of 1 .*the chain diverged; take smaller ones",
    ):
        samples = daps_kit.sample(gaussian(), identity(), y, sampler=_Echo(), runs=2)
    assert torch.isfinite(samples[0]).all()
    assert torch.isnan(samples[1]).all()
    assert set(samples.failures) == {(1, 0), (1, 1)}
    assert samples.failures[1, 0].cause == "diverged"
    assert torch.isnan(samples[1].mean).all()
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


# --- functions, arrays, one measurement or several


def shrink(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x_t] of independent pixels of mean 0 and standard deviation 0.5."""
    return x * 0.25 / (0.25 + sigma**2)


def test_functions_give_what_components_give() -> None:
    """Of two spellings of one model, the samples are the same."""
    y = torch.linspace(-0.5, 0.5, 4).reshape(1, *SHAPE)
    operator = daps_kit.build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": 0.1}}, shape=SHAPE
    )
    sampler = {**DAPS, "annealing": {"use": "edm", "levels": 4}, "spread": "sigma"}
    built = daps_kit.sample(gaussian(mean=0.0), operator, y, sampler=sampler, runs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = daps_kit.sample(
            shrink, lambda x: x, y, noise=0.1, linear=True, shape=SHAPE, sampler=sampler, runs=3
        )
    torch.testing.assert_close(given.samples, built.samples, atol=1e-5, rtol=0)


def test_one_measurement_is_one() -> None:
    """A [3, H, W] measurement was once three."""
    shape = (3, 4, 5)
    operator = identity(shape=shape)
    single = daps_kit.sample(gaussian(), operator, torch.zeros(shape), sampler=_EchoAny(), runs=2)
    assert single.samples.shape == (2, *shape)
    assert (len(single), single.single) == (1, True)
    assert single.mean.shape == single.measurement.shape == shape
    several = daps_kit.sample(gaussian(), operator, torch.zeros(3, *shape), sampler=_EchoAny(), runs=2)
    assert several.samples.shape == (3, 2, *shape)
    assert torch.equal(several.samples[0], single.samples)


def test_arrays_and_lists_are_taken() -> None:
    y = np.zeros((1, 2, 2))
    for given in (y, y.tolist(), y.astype("uint8"), torch.zeros(SHAPE, dtype=torch.float64)):
        posterior = daps_kit.sample("gaussian", "identity", given, shape=SHAPE, sampler=_Echo(), runs=2)
        assert posterior.samples.shape == (2, *SHAPE)
    assert posterior.measurement.dtype == torch.float64


def test_networks_and_noise_of_all_kinds() -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    y = torch.zeros(SHAPE)
    for noise in (0.1, np.float32(0.1), np.full((1, 2, 2), 0.1), {"use": "laplace"}, "gaussian"):
        posterior = daps_kit.sample(gaussian(), network, y, noise=noise, shape=SHAPE, sampler=_Echo(), runs=1)
        assert posterior.residuals.shape == (1,)
    louder = daps_kit.sample(gaussian(), identity(0.1), y, noise=0.2, sampler=_Echo(), runs=2)
    quiet = daps_kit.sample(gaussian(), identity(0.1), y, sampler=_Echo(), runs=2)
    torch.testing.assert_close(2 * louder.residuals, quiet.residuals)


def test_the_shape_is_that_of_the_adjoint() -> None:
    posterior = daps_kit.sample(
        gaussian(), lambda x: x[..., :1], torch.zeros(1, 2, 1), noise=0.1, sampler=_EchoAny(),
        adjoint=lambda y: torch.nn.functional.pad(y, (0, 1)), runs=1,
    )  # fmt: skip
    assert posterior.samples.shape == (1, *SHAPE)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (torch.zeros(2, 2), {}, r"y: the shape \[2, 2\] does not fit; .* is \[1, 2, 2\], several are \[B, 1, 2, 2\]; the axis of channels is missing: y\[None\]"),
        (torch.zeros(5, 2, 2), {}, r"the axis of channels is missing: y\[:, None\]"),
        (torch.zeros(2, 2, 1), {}, r"the channels are last: np.moveaxis\(y, -1, -3\)"),
        (torch.zeros(3, 2, 2)[None], {}, "it has 1 channel, y has 3"),
        (torch.zeros(0, 1, 2, 2), {}, r"the shape \[0, 1, 2, 2\] does not fit"),
        (torch.full(SHAPE, 200.0), {}, r"y: values from 200 to 200, but the operator gives -1 to 1 for images in \[-1, 1\]; if 0 is black and 255 white, give y / 127.5 - 1"),
        (torch.full(SHAPE, torch.nan), {}, "y: 4 of 4 values are infinite or NaN"),
        (torch.zeros(SHAPE, dtype=torch.complex64), {}, "y: complex numbers"),
        (["a"], {}, "y: list is no array of real numbers"),
        (torch.zeros(SHAPE), {"noise": -1.0}, "noise: sigma must not be negative or above 1e.15, got -1"),
        (torch.zeros(SHAPE), {"noise": object()}, "noise: object is no noise; allowed:"),
        (torch.zeros(SHAPE), {"linear": True}, "adjoint and linear belong to an operator that is a function"),
        (torch.zeros(SHAPE), {"shape": (2, 2)}, r"shape must be \(channels, height, width\), not \(2, 2\)"),
        (torch.zeros(SHAPE), {"prior": 3}, "prior: int is no prior; allowed"),
        (torch.zeros(SHAPE), {"operator": 3, "shape": SHAPE}, "operator: int is no operator; allowed"),
        (torch.zeros(SHAPE), {"operator": []}, "operator: the list is empty"),
        (torch.zeros(SHAPE), {"operator": lambda x: x}, "shape: needed as"),
        (torch.zeros(SHAPE), {"operator": lambda x: x, "shape": SHAPE}, "noise is missing: its standard deviation in the units of y, such as noise=0.05"),
        (torch.zeros(SHAPE), {"prior": lambda x: x}, "denoiser: failed on images .* TypeError"),
        (torch.zeros(SHAPE), {"prior": lambda x, sigma: x[0]}, r"denoiser: returned \[1, 2, 2\] for noisy images"),
        (torch.zeros(SHAPE), {"prior": "embedded"}, r"knows images of shape \[3, 64, 64\] .*, but those of the run have \[1, 2, 2\]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line(y: object, options: dict[str, Any], message: str) -> None:
    options = {"prior": gaussian(), "operator": identity(), **options}
    with pytest.raises(UserError, match=message) as caught:
        daps_kit.sample(y=y, sampler=_Echo(), **options)
    assert "\n" not in str(caught.value)


def test_entries_that_a_mask_hides_may_be_anything() -> None:
    operator = daps_kit.build(
        "operator", {"use": "inpainting", "mask": "box", "mask_len_range": [2, 3]}, shape=(1, 8, 8)
    )
    hidden = operator.project(torch.ones(1, 1, 8, 8)) == 0
    assert bool(hidden.any())
    y = torch.zeros(1, 1, 8, 8).masked_fill(hidden, torch.nan)
    posterior = daps_kit.sample(gaussian(), operator, y, sampler=_EchoAny(), runs=1)
    assert torch.isfinite(posterior.samples).all()


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    daps_kit.sample(gaussian(), identity(), torch.zeros(SHAPE), sampler=_Echo(), runs=1)
    assert capsys.readouterr().err == ""
    daps_kit.sample(gaussian(), identity(), torch.zeros(SHAPE), sampler=_Echo(), runs=1, progress=True)
    assert "level 1/1" in capsys.readouterr().err


def test_score_ksd_takes_what_sample_returns() -> None:
    prior, operator = gaussian(), identity()
    y = torch.linspace(-0.5, 0.5, 8).reshape(2, *SHAPE)
    posterior = daps_kit.sample(prior, operator, y, runs=6, sampler={"use": "daps", "budget": "fast"})
    both = daps_kit.score_ksd(prior, operator, y, posterior, seed=3)
    for b in range(2):
        wanted = stein.score_ksd(prior, operator, y[b], posterior.samples[b], 0.4 * 0.3, seed=3)
        how = {"noise": 0.3, "linear": True, "seed": 3}
        alone = daps_kit.score_ksd(prior, lambda x: x, y[b], posterior[b], **how)
        torch.testing.assert_close(tuple(column[b] for column in both), tuple(wanted))
        torch.testing.assert_close(tuple(alone), tuple(wanted))


def test_score_ksd_leaves_lost_samples_out() -> None:
    x = torch.randn(2, 4, *SHAPE, generator=torch.Generator().manual_seed(0)) / 3
    lost = torch.cat([x, torch.full((2, 1, *SHAPE), torch.nan)], 1)
    lost[1, :3] = torch.nan
    problem = (gaussian(), identity(), torch.zeros(2, *SHAPE))
    all_there, found = (daps_kit.score_ksd(*problem, samples) for samples in (x, lost))
    torch.testing.assert_close(found.squared[0], all_there.squared[0])
    assert torch.isnan(found.z[1])


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        (torch.zeros(1, *SHAPE), {}, r"samples must be \[runs, C, H, W\] with 2 runs or more, or several, not \[1, 1, 2, 2\]"),
        (torch.zeros(3, 3, *SHAPE), {}, r"samples: the shape \[3, 3, 1, 2, 2\] does not fit one measurement without B"),
        (torch.zeros(3, *SHAPE), {"sigma": 0.0}, r"sigma: 0.0 is no noise level of the prior; it must be above 0, from 0 to inf"),
        (torch.zeros(3, *SHAPE), {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        (torch.zeros(3, *SHAPE), {"noise": {"use": "gaussian", "sigma": "unknown"}}, "the operator has unknown numbers"),
    ],
)  # fmt: skip
def test_score_ksd_says_what_is_wrong(samples: Tensor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        daps_kit.score_ksd(gaussian(), identity(), torch.zeros(SHAPE), samples, **settings)
