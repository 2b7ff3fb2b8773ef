"""Operators with unknown numbers, at any values of them: what building them from those values gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import daps_operators
from daps_kit.api import build
from daps_kit.contracts import LinearOperator, RandomStreams
from daps_kit.errors import UserError
from daps_kit.given import as_operator
from daps_kit.noise import GaussianNoise
from daps_kit.parameters import build_operator, joined, near_each_other, with_noise
from daps_kit.settings import GaussianNoiseSettings
from daps_kit.unknown import Uniform, Unknown

SHAPE = (2, 12, 10)
BLUR = {
    "use": "gaussian_blur", "kernel_size": 7, "intensity": {"unknown": [0.5, 3.0]},
    "noise": {"use": "gaussian", "sigma": "unknown"},
}  # fmt: skip
VALUES = torch.tensor([[0.7, 0.1], [2.0, 0.3]], dtype=torch.float64)


def built(intensity: float, sigma: float) -> LinearOperator:
    noise = GaussianNoiseSettings(sigma=sigma)
    made = daps_operators.GaussianBlur(kernel_size=7, intensity=intensity, noise=noise)
    return made.build(shape=SHAPE, seed=0, device=torch.device("cpu"))  # type: ignore[return-value]


def test_an_operator_at_values_is_the_one_built_from_them() -> None:
    operator = build("operator", BLUR, shape=SHAPE)
    parameters = operator.parameters
    assert parameters is not None
    assert parameters.names == ("intensity", "noise.sigma")
    at = parameters.at(VALUES)
    assert isinstance(at, LinearOperator)
    assert at.parameters is None
    x, y = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    apart = [built(*row) for row in VALUES.tolist()]
    expected = torch.cat([each.forward(x[b : b + 1]) for b, each in enumerate(apart)])
    assert torch.allclose(at.forward(x), expected, atol=1e-6)
    back = torch.cat([each.adjoint(y[b : b + 1]) for b, each in enumerate(apart)])
    assert torch.allclose(at.adjoint(y), back, atol=1e-6)
    solved = at.solve_normal(y, torch.tensor([0.5, 0.1]))
    found = [apart[0].solve_normal(y[:1], 0.5), apart[1].solve_normal(y[1:], 0.1)]
    assert torch.allclose(solved, torch.cat(found), atol=1e-5)
    likely = torch.cat([each.log_likelihood(x[b : b + 1], y[b : b + 1]) for b, each in enumerate(apart)])
    assert torch.allclose(at.log_likelihood(x, y), likely, rtol=1e-5)
    assert torch.allclose(at.residual(x, y), torch.cat(
        [each.residual(x[b : b + 1], y[b : b + 1]) for b, each in enumerate(apart)]), rtol=1e-5)  # fmt: skip


def test_operators_of_their_own_keep_their_draws() -> None:
    section = {"use": "inpainting", "mask": "random", "noise": {"use": "gaussian", "sigma": "unknown"}}
    apart = [build("operator", section, shape=SHAPE, seed=seed) for seed in (0, 1)]
    operator = joined(apart)
    assert operator.parameters is not None
    at = operator.parameters.at(torch.tensor([[0.1], [0.2]], dtype=torch.float64))
    x = torch.randn(2, *SHAPE)
    assert torch.equal(at.forward(x), torch.cat([apart[0].forward(x[:1]), apart[1].forward(x[1:])]))
    assert torch.allclose(at.noise.std(x)[:, 0, 0, 0], torch.tensor([0.1, 0.2]))
    drawn = at.measure(x, RandomStreams([0, 1])) - at.forward(x)
    alone = apart[1].parameters.at(torch.tensor([[0.2]])).measure(x[1:], RandomStreams([1]))  # type: ignore[union-attr]
    assert torch.allclose(drawn[1:], alone - at.forward(x)[1:], atol=1e-6)
    same = joined([apart[0], apart[0]])
    assert same is apart[0]


@pytest.mark.parametrize("noise", [
    {"use": "poisson_gaussian", "peak": {"unknown": [50, 200]}, "read": {"unknown": [1, 4]}},
    {"use": "laplace", "scale": "unknown"},
    {"use": "gaussian", "sigma": "unknown", "quantised": 8},
])  # fmt: skip
def test_other_noise_is_stacked(noise: dict[str, object]) -> None:
    operator = build("operator", {"use": "identity", "noise": noise}, shape=SHAPE)
    assert operator.parameters is not None
    values = operator.parameters.values(
        torch.tensor([[0.6], [0.75]]).expand(2, len(operator.parameters.names))
    )
    at, apart = operator.parameters.at(values), operator.parameters.operators(values)
    x = 0.3 * torch.randn(2, *SHAPE)
    y = torch.cat([each.measure(x[b : b + 1], RandomStreams([b])) for b, each in enumerate(apart)])
    for name in ("log_likelihood", "residual"):
        rows = [getattr(each, name)(x[b : b + 1], y[b : b + 1]) for b, each in enumerate(apart)]
        assert torch.allclose(getattr(at, name)(x, y), torch.cat(rows), rtol=1e-4)
    scaled = [each.loss(x[b : b + 1], y[b : b + 1]) / each.noise.dispersion for b, each in enumerate(apart)]
    assert torch.allclose(at.loss(x, y), torch.cat(scaled), rtol=1e-4)
    slope = at.loss_grad(x, y)[1]
    v = torch.randn_like(x)
    h = 1e-3
    change = (at.loss((x + h * v).double(), y.double()) - at.loss((x - h * v).double(), y.double())) / (2 * h)
    assert torch.allclose(change.float(), (slope * v).flatten(1).sum(1), rtol=0.05, atol=1.0)


def test_the_sigma_of_channels_are_those_of_the_values() -> None:
    noise = {"use": "gaussian", "sigma": [0.1, "unknown", {"unknown": [0.1, 1.0]}]}
    operator = build("operator", {"use": "identity", "noise": noise}, shape=(3, 4, 4))
    assert operator.parameters is not None
    assert operator.parameters.names == ("noise.sigma.1", "noise.sigma.2")
    at = operator.parameters.at(torch.tensor([[0.2, 0.3], [0.5, 0.4]]))
    found = at.noise.std(torch.zeros(2, 3, 4, 4))
    assert torch.allclose(found[:, :, 0, 0], torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.5, 0.4]]))
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))


def test_a_list_of_sigma_for_other_channels_is_named_when_it_is_built() -> None:
    for sigma in ([0.1, 0.2], ["unknown"] * 4):
        with pytest.raises(
            UserError, match=f"list of {len(sigma)}, and the number of channels of the measurement is 3"
        ):
            build(
                "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": sigma}}, shape=(3, 4, 4)
            )


def test_simulated_measurements_have_stated_values_or_draws_of_the_prior() -> None:
    operator = build("operator", BLUR | {"intensity": {"unknown": [0.5, 3.0], "truth": 1.25}}, shape=SHAPE)
    assert operator.parameters is not None
    truths = operator.parameters.truths(RandomStreams(range(200)))
    assert bool((truths[:, 0] == 1.25).all())
    share = float((truths[:, 1] < 0.1).double().mean())
    assert share == pytest.approx(0.5, abs=0.12)  # 3.4 standard errors


def test_values_on_a_circle_lie_around_one_mean() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.normal([60.0, 172.0, 183.0], 6.0, (40, 3)) % 180
    found = near_each_other(torch.from_numpy(drawn)[None], 180.0)[0]
    means = scipy.stats.circmean(drawn, 180, axis=0)
    deviations = scipy.stats.circstd(drawn, 180, axis=0)
    assert bool(torch.isclose(found.remainder(180), torch.from_numpy(drawn)).all())
    assert found.std(0, correction=0).numpy() == pytest.approx(deviations, rel=0.02)
    # The last level says which turn it is: 3 degrees, and so -8 for what is 172, as 60 is nearer than -120.
    assert found.mean(0).numpy() == pytest.approx([means[0], means[1] - 180, means[2]], abs=0.1)


def test_values_that_lie_together_stay_what_they_are() -> None:
    traces = torch.tensor([[-9.0, -5.0], [torch.nan, torch.nan], [-7.0, -6.0]])
    assert torch.equal(near_each_other(traces, 360.0).nan_to_num(99), traces.nan_to_num(99))
    assert near_each_other(traces, None) is traces


def test_noise_of_its_own_for_any_operator() -> None:
    noise = build("noise", {"use": "gaussian", "sigma": "unknown"})
    operator = with_noise(built(1.0, 0.05), noise)
    assert operator.parameters is not None
    assert operator.parameters.names == ("noise.sigma",)
    assert isinstance(operator.parameters.at(torch.tensor([[0.4]])).noise, GaussianNoise)
    assert with_noise(built(1.0, 0.05), GaussianNoise(0.2)).noise.level(torch.zeros(1)) == 0.2
    both = with_noise(build("operator", BLUR, shape=SHAPE), GaussianNoise(0.2))
    assert both.parameters is not None
    assert both.parameters.names == ("intensity",)
    at, x = both.parameters.at(torch.tensor([[0.7]])), torch.randn(1, *SHAPE)
    assert at.noise.level(x) == 0.2
    assert torch.allclose(at.forward(x), built(0.7, 0.2).forward(x), atol=1e-6)


def test_unknown_noise_of_a_function_and_of_an_operator() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x[..., ::2]

    for operator in (function, build("operator", BLUR, shape=SHAPE)):
        found = as_operator(operator, build, SHAPE, torch.device("cpu"), noise="unknown")
        assert found.parameters is not None
        assert found.parameters.names[-1] == "noise.sigma"
        at = found.parameters.at(torch.full((1, len(found.parameters.names)), 0.5))
        assert at.noise.level(torch.zeros(1, 1, 2, 2)) == pytest.approx(0.5)


@pytest.mark.parametrize("noise", [None, "of its own"])
def test_the_noise_of_settings_may_be_their_own_business(noise: str | None) -> None:
    class OwnNoise(daps_operators.GaussianBlur):
        noise: str | None = None  # type: ignore[assignment]

        def build(self, *, shape, seed, device):
            return daps_operators.GaussianBlur(**self.model_dump(exclude={"noise"})).build(
                shape=shape, seed=seed, device=device
            )

    settings = OwnNoise(kernel_size=7, noise=noise)
    operator = build_operator(settings, shape=SHAPE, seed=0, device=torch.device("cpu"))
    assert operator.parameters is None
    assert operator.noise.dispersion == pytest.approx(0.05**2)
    settings = OwnNoise(kernel_size=7, noise=noise, intensity=Unknown(Uniform(low=0.5, high=3.0)))
    operator = build_operator(settings, shape=SHAPE, seed=0, device=torch.device("cpu"))
    assert operator.parameters is not None
    assert operator.parameters.names == ("intensity",)
    x = torch.randn(1, *SHAPE)
    at = operator.parameters.at(torch.tensor([[0.7]], dtype=torch.float64))
    assert torch.allclose(at.forward(x), built(0.7, 0.05).forward(x))
