"""Each conformance check catches the fault it is for: a right component passes it, one with that fault does not."""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

from daps_kit import testing
from daps_kit.contracts import (
    GaussianNoise,
    Kernel,
    KernelInfo,
    KernelState,
    LinearOperator,
    Operator,
    Prior,
    Sampler,
    Step,
)
from daps_kit.settings import (
    DrawnOperatorSettings,
    KernelSettings,
    OperatorSettings,
    PriorSettings,
    SamplerSettings,
)
from daps_kit.testing_base import NotApplicable

SHAPE = (3, 8, 8)
NOISE = GaussianNoise(0.1)


# --- a right component of each kind


class Masked(LinearOperator):
    """y = m x with a mask of 0 and 2."""

    def __init__(self, shape=SHAPE, seed=0, noise=NOISE):
        super().__init__(shape, noise)
        kept = torch.rand(shape[1:], generator=torch.Generator().manual_seed(seed)) > 0.3
        self.observed = kept.float()[None, None]
        self.mask = 2 * self.observed

    def forward(self, x):
        return x * self.mask.to(x)

    def adjoint(self, y):
        return y * self.mask.to(y)

    def state(self):
        return {"mask": self.mask}


class Gaussian(Prior):
    """x0 ~ N(0.2, 0.5^2)."""

    def denoise(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return 0.2 + (x - 0.2) * 0.25 / (0.25 + level**2)

    def sample(self, shape, streams, *, steps=40):
        return 0.2 + 0.5 * streams.normal(shape)


class Langevin(Kernel):
    """Unadjusted Langevin dynamics with a small step."""

    steps = 30
    eta = 1e-4

    def init(self, target, x, streams):
        return KernelState(x)

    def step(self, target, state, streams):
        _, gradient = target.log_density_grad(state.x)
        noise = streams.normal(state.x.shape[1:], state.x.dtype)
        return KernelState(state.x + self.eta * gradient + (2 * self.eta) ** 0.5 * noise), KernelInfo(
            step_size=self.eta
        )


class Exact(Sampler):
    """Draws x0 given x_t and y exactly, at three noise levels, by solving with dense matrices."""

    sigmas = (10.0, 3.0, 1.0)

    def sample(self, prior, operator, y, streams):
        shape, levels = prior.state_shape(operator.shape), len(self.sigmas)
        sigmas = [min(max(s, prior.sigma_range[0]), prior.sigma_range[1]) for s in self.sigmas]
        x_t = sigmas[0] * streams.normal(shape)
        for level, sigma in enumerate(sigmas):
            mean = prior.denoise(x_t, sigma)
            x0y = self.draw(prior, operator, y, mean, sigma, streams)
            failed = ~torch.isfinite(x0y).flatten(1).all(1)
            messages = (f"lost: {failed.tolist()}",) if failed.any() else ()
            yield Step(level, levels, sigma, x_t, mean, x0y, failed, KernelInfo(), messages)
            if level + 1 < levels:
                x_t = x0y + sigmas[level + 1] * streams.normal(shape)

    def draw(self, prior, operator, y, mean, sigma, streams):
        root = (
            prior.denoising_covariance(sigma)
            .scale(torch.eye(16).reshape(16, *mean.shape[1:]))
            .flatten(1)
            .double()
        )
        basis = (
            operator.forward(prior.decode(torch.eye(16).reshape(16, *mean.shape[1:]))).flatten(1).double().T
        )
        precision = torch.linalg.inv(root @ root) + basis.T @ basis / operator.noise.dispersion
        residual = (y - operator.forward(prior.decode(mean))).flatten(1).double()
        centre = torch.linalg.solve(precision, (residual @ basis / operator.noise.dispersion).T).T
        values, vectors = torch.linalg.eigh(precision)
        noise = streams.normal((16,), torch.float64) / values.sqrt() @ vectors.T
        return mean + (centre + noise).float().reshape(mean.shape)


class MaskedSettings(DrawnOperatorSettings):
    """Half of the pixels, doubled."""

    name = "masked"
    operator: str = Field("", description="the faulty class to build instead of the right one")

    def build(self, *, shape, seed, device):
        return OPERATORS.get(self.operator, Masked)(shape, seed)


RIGHT = {
    "operator": [Masked(), MaskedSettings()],
    "prior": [Gaussian()],
    "kernel": [Langevin()],
    "sampler": [Exact()],
}


# --- operators with a fault


class OneShape(Masked):
    def loss(self, x, y):
        return super().loss(x, y).sum()


class DoubleOnly(Masked):
    def forward(self, x):
        return x * self.mask.double()


class Elsewhere(Masked):
    def jvp(self, x, v):
        return super().jvp(x, v).to("meta")


class Remembers(Masked):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.mask.to(x) * (1 + 1e-3 * self.calls)


class GlobalNoise(Masked):
    def measure(self, x, streams):
        return self.forward(x) + 0.1 * torch.randn(x.shape, dtype=x.dtype)


class GlobalNumpy(Masked):
    def to_image(self, y):
        np.random.seed(0)  # noqa: NPY002 (the fault)
        return super().to_image(y)


class InPlace(Masked):
    def adjoint(self, y):
        return y.mul_(self.mask.to(y))


class CentresBatch(Masked):
    def forward(self, x):
        return x * self.mask.to(x) * (1 + x.mean())


class SharedNoise(Masked):
    def measure(self, x, streams):
        return self.project(self.forward(x) + 0.1 * streams.normal(x.shape[1:], x.dtype).flip(0))


class WrongJvp(Masked):
    def jvp(self, x, v):
        return 1.01 * self.forward(v)


class WrongVjp(Masked):
    def forward_vjp(self, x):
        return self.forward(x), lambda v: 1.01 * self.adjoint(v)


class Attached(Masked):
    def forward_vjp(self, x):
        return super().forward_vjp(x)[0], lambda v: v * self.mask.to(v) + 0 * x


class CutGraph(Masked):
    def forward(self, x):
        return x.detach() * self.mask.to(x)


class WrongLossGrad(Masked):
    def loss_grad(self, x, y):
        loss, gradient = super().loss_grad(x, y)
        return loss, gradient / 2


class HalfLoss(Masked):
    def loss(self, x, y):
        return super().loss(x, y) / 2


class HiddenLeak(Masked):
    """The loss counts pixels that are not observed."""

    def forward(self, x):
        return x * (self.mask + 0.1).to(x)


class LouderNoise(Masked):
    def measure(self, x, streams):
        return self.project(self.forward(x) + 0.12 * streams.normal(x.shape[1:], x.dtype))


class BiasedNoise(Masked):
    def measure(self, x, streams):
        return self.project(self.forward(x) + 0.02 + 0.1 * streams.normal(x.shape[1:], x.dtype))


class NoNoise(Masked):
    def measure(self, x, streams):
        return self.forward(x)


class NoisyHidden(Masked):
    def measure(self, x, streams):
        return self.forward(x) + 0.1 * streams.normal(x.shape[1:], x.dtype)


class ForgetsMask(Masked):
    """Counts hidden pixels among those the residual is a mean over."""

    def residual(self, x, y):
        return ((self.forward(x) - y).square().flatten(1).mean(1) / self.noise.dispersion).sqrt()


class Affine(Masked):
    def forward(self, x):
        return (x + 0.01) * self.mask.to(x)


class WrongAdjoint(Masked):
    def adjoint(self, y):
        return y / self.mask.clamp_min(1).to(y) * self.observed.to(y)


class WrongSolve(Masked):
    def solve_normal(self, b, weight):
        return b / (self.mask.to(b) + torch.as_tensor(weight).reshape(-1, 1, 1, 1).to(b))


class OneWeight(Masked):
    def solve_normal(self, b, weight):
        return b / (self.mask.to(b) ** 2 + torch.as_tensor(weight).reshape(-1)[0].to(b))


class Unseeded(Masked):
    count = 0

    def __init__(self, shape=SHAPE, seed=0, noise=NOISE):
        type(self).count += 1
        super().__init__(shape, self.count, noise)


class OneForAll(Masked):
    def __init__(self, shape=SHAPE, seed=0, noise=NOISE):
        super().__init__(shape, 0, noise)


class FirstOfStack(Masked):
    @classmethod
    def stack(cls, operators):
        return operators[0]


OPERATORS: dict[str, type[Operator]] = {cls.__name__: cls for cls in (*Masked.__subclasses__(), Masked)}


class Undescribed(OperatorSettings):
    """A mask with a parameter that nobody explains."""

    name = "undescribed"
    amount: float = 1.0

    def build(self, *, shape, seed, device):
        return Masked(shape, seed)


def with_settings(name):
    return MaskedSettings(operator=name, draw="per_image")


# --- priors with a fault


class Flattened(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma).flatten(1)


class SinglePrecision(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x.float(), sigma)


class Drifting(Gaussian):
    calls = 0

    def denoise(self, x, sigma):
        self.calls += 1
        return super().denoise(x, sigma) + 1e-6 * self.calls


class GlobalSample(Gaussian):
    def sample(self, shape, streams, *, steps=40):
        return 0.2 + 0.5 * torch.randn(len(streams), *shape)


class ShiftsInput(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x.sub_(0.0).mul_(1.001), sigma)


class BatchMean(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) + 0.01 * x.mean()


class FirstSigma(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x, torch.as_tensor(sigma).reshape(-1)[0])


class WrongScore(Gaussian):
    def score(self, x, sigma):
        return (self.denoise(x, sigma) - x) / torch.as_tensor(sigma).reshape(-1, 1, 1, 1)


class TooStrong(Gaussian):
    """Denoises as if the prior were narrower than its samples."""

    def denoise(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return 0.2 + (x - 0.2) * 0.16 / (0.16 + level**2)


class Blurs(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) * 0.98


class KeepsNoise(Gaussian):
    def denoise(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return super().denoise(x, sigma) + 0.2 * x / (1 + level)


class ElsewhereMean(Gaussian):
    def sample(self, shape, streams, *, steps=40):
        return 0.5 + 0.5 * streams.normal(shape)


class NotDifferentiable(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x.detach(), sigma) + 0 * x


class InBytes(Gaussian):
    def denoise(self, x, sigma):
        return 127.5 * (1 + super().denoise(x / 127.5 - 1, torch.as_tensor(sigma) / 127.5))

    def sample(self, shape, streams, *, steps=40):
        return 127.5 * (1 + super().sample(shape, streams))


class Overflows(Gaussian):
    def denoise(self, x, sigma):
        return super().denoise(x, sigma) + (torch.as_tensor(sigma).reshape(-1, 1, 1, 1) > 50) * float("inf")


class Unpaired(Gaussian):
    def decode(self, z):
        return 2 * z + 1


class Overconfident(Gaussian):
    def denoising_covariance(self, sigma):
        return SimpleNamespace(scale=lambda v: v * (0.5 * 0.25 * sigma**2 / (0.25 + sigma**2)) ** 0.5)


class UndescribedPrior(PriorSettings):
    """A prior with a parameter that nobody explains."""

    name = "undescribed"
    amount: float = 1.0

    def build(self, *, shape, device):
        return Gaussian()


# --- kernels with a fault


class Flat(Langevin):
    def run(self, target, x, streams):
        x, info = super().run(target, x, streams)
        return x.flatten(1), info


class Shifted(Langevin):
    def step(self, target, state, streams):
        state, info = super().step(target, state, streams)
        return KernelState(state.x + 1e-4), info


class MissingHalf(Langevin):
    """Twice the gradient: the missing factor 1/2 of the likelihood."""

    def step(self, target, state, streams):
        _, gradient = target.log_density_grad(state.x)
        return super().step(target, KernelState(state.x + self.eta * gradient), streams)


class Still(Langevin):
    def step(self, target, state, streams):
        streams.normal(state.x.shape[1:])
        return state, KernelInfo(step_size=self.eta)


class Unrepeatable(Langevin):
    generator = torch.Generator().manual_seed(0)

    def step(self, target, state, streams):
        state, info = super().step(target, state, streams)
        noise = torch.randn(state.x.shape, generator=self.generator, dtype=state.x.dtype)
        return KernelState(state.x + 1e-3 * noise), info


class Coupled(Langevin):
    def step(self, target, state, streams):
        state, info = super().step(target, state, streams)
        return KernelState(state.x + 0.1 * self.eta * (state.x.mean(0) - state.x) / 1e-3), info


class SilentZero(Langevin):
    def run(self, target, x, streams):
        x, info = super().run(target, x, streams)
        return x.nan_to_num(), replace(info, diverged=torch.zeros(len(x), dtype=torch.bool))


class Spreads(Langevin):
    def run(self, target, x, streams):
        x, info = super().run(target, x, streams)
        return (x * 0, info) if bool(info.diverged.any()) else (x, info)


class GlobalKernel(Langevin):
    def step(self, target, state, streams):
        _, gradient = target.log_density_grad(state.x)
        noise = torch.randn_like(state.x)
        return KernelState(state.x + self.eta * gradient + (2 * self.eta) ** 0.5 * noise), KernelInfo()


class MovesCentre(Langevin):
    def init(self, target, x, streams):
        return KernelState(x.add_(1e-3))


class UndescribedKernel(KernelSettings):
    """A kernel with a parameter that nobody explains."""

    name = "undescribed"
    amount: float = 1.0

    def build(self):
        return Langevin()


# --- samplers with a fault


class Miscounts(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, level=step.level + 1)


class HalfwayMean(Exact):
    def draw(self, prior, operator, y, mean, sigma, streams):
        x0y = super().draw(prior, operator, y, mean, sigma, streams)
        return x0y + 0.2


class TooWide(Exact):
    """The covariance sigma^2 I of the published method."""

    def draw(self, prior, operator, y, mean, sigma, streams):
        wide = SimpleNamespace(
            denoising_covariance=lambda s: SimpleNamespace(scale=lambda v: s * v), decode=prior.decode
        )
        return super().draw(wide, operator, y, mean, sigma, streams)


class IgnoresDecoder(Exact):
    def draw(self, prior, operator, y, mean, sigma, streams):
        plain = SimpleNamespace(
            denoising_covariance=prior.denoising_covariance,
            decode=lambda z: z.reshape(len(z), *operator.shape),
        )
        return super().draw(plain, operator, y, mean, sigma, streams)


class LeavesRange(Exact):
    def sample(self, prior, operator, y, streams):
        prior.denoise(torch.zeros(1, 1, 4, 4), 100.0)
        return super().sample(prior, operator, y, streams)


class UnrepeatableRun(Exact):
    generator = torch.Generator().manual_seed(0)

    def draw(self, *arguments):
        x0y = super().draw(*arguments)
        return x0y + 1e-3 * torch.randn(x0y.shape, generator=self.generator)


class CoupledRun(Exact):
    def draw(self, *arguments):
        x0y = super().draw(*arguments)
        return x0y + 0.05 * x0y.mean(0)


class HidesFailure(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, x0y=step.x0y.nan_to_num(), failed=torch.zeros_like(step.failed))


class SilentFailure(Exact):
    def sample(self, prior, operator, y, streams):
        for step in super().sample(prior, operator, y, streams):
            yield replace(step, messages=())


class GlobalRun(Exact):
    def draw(self, *arguments):
        return super().draw(*arguments) + 1e-3 * torch.randn(1)


class ClampsMeasurement(Exact):
    def sample(self, prior, operator, y, streams):
        return super().sample(prior, operator, y.clamp_(-0.5, 0.5), streams)


class UndescribedSampler(SamplerSettings):
    """A sampler with a parameter that nobody explains."""

    name = "undescribed"
    amount: float = 1.0

    def build(self):
        return Exact()


HEAVY = "heavy import"
"""Stands for settings in a module that imports torch."""

MUTANTS: dict[str, dict[str, list[Any]]] = {
    "operator": {
        "shapes": [OneShape()],
        "dtypes": [DoubleOnly()],
        "devices": [Elsewhere()],
        "deterministic": [Remembers()],
        "no_global_randomness": [GlobalNoise(), GlobalNumpy()],
        "input_unchanged": [InPlace()],
        "batch_equals_single": [CentresBatch(), SharedNoise()],
        "jvp": [WrongJvp()],
        "vjp": [WrongVjp(), Attached()],
        "differentiable": [CutGraph()],
        "loss_gradient": [WrongLossGrad()],
        "loss_is_likelihood": [HalfLoss(), HiddenLeak()],
        "noise_moments": [LouderNoise(), BiasedNoise(), NoNoise(), NoisyHidden()],
        "residual": [ForgetsMask()],
        "linearity": [Affine()],
        "dot_test": [WrongAdjoint()],
        "solve_normal": [WrongSolve(), OneWeight()],
        "same_seed_same_operator": [with_settings("Unseeded"), with_settings("OneForAll")],
        "stack": [with_settings("FirstOfStack")],
        "settings_described": [Undescribed()],
        "settings_import_is_light": [HEAVY],
    },
    "prior": {
        "shapes": [Flattened()],
        "dtypes": [SinglePrecision()],
        "deterministic": [Drifting()],
        "no_global_randomness": [GlobalSample()],
        "input_unchanged": [ShiftsInput()],
        "batch_equals_single": [BatchMean()],
        "per_sample_sigma": [FirstSigma()],
        "score_is_tweedies": [WrongScore(), TooStrong()],
        "limit_small_sigma": [Blurs()],
        "limit_large_sigma": [KeepsNoise(), ElsewhereMean()],
        "differentiable": [NotDifferentiable()],
        "value_range": [InBytes(), Overflows()],
        "decode_encode": [Unpaired()],
        "calibration": [Overconfident(), TooStrong()],
        "settings_described": [UndescribedPrior()],
        "settings_import_is_light": [HEAVY],
    },
    "kernel": {
        "shapes": [Flat()],
        "invariant_mean": [Shifted()],
        "invariant_covariance": [MissingHalf()],
        "moves": [Still()],
        "same_streams_same_chain": [Unrepeatable()],
        "independent_in_batch": [Coupled()],
        "reports_not_a_number": [SilentZero(), Spreads()],
        "no_global_randomness": [GlobalKernel()],
        "input_unchanged": [MovesCentre()],
        "settings_described": [UndescribedKernel()],
        "settings_import_is_light": [HEAVY],
    },
    "sampler": {
        "steps_described": [Miscounts()],
        "posterior_mean": [HalfwayMean()],
        "posterior_covariance": [TooWide()],
        "latent_prior": [IgnoresDecoder()],
        "within_sigma_range": [LeavesRange()],
        "same_streams_same_samples": [UnrepeatableRun()],
        "batch_size_independent": [CoupledRun()],
        "failure_reported": [HidesFailure(), SilentFailure()],
        "no_global_randomness": [GlobalRun()],
        "input_unchanged": [ClampsMeasurement()],
        "settings_described": [UndescribedSampler()],
        "settings_import_is_light": [HEAVY],
    },
}

PAIRS = [
    pytest.param(
        kind, name, mutant, id=f"{kind}-{name}-{mutant if mutant is HEAVY else type(mutant).__name__}"
    )
    for kind, checks in MUTANTS.items()
    for name, mutants in checks.items()
    for mutant in mutants
]


@pytest.mark.parametrize("kind", list(MUTANTS))
def test_every_check_has_a_mutant(kind):
    assert [check.__name__ for check in testing.CHECKS[kind]] == list(MUTANTS[kind])


@pytest.fixture
def heavy(tmp_path, monkeypatch):
    """Settings of any kind in a module that imports torch."""
    source = """
        import torch
        from daps_kit.settings import KernelSettings, OperatorSettings, PriorSettings, SamplerSettings
        class O(OperatorSettings):
            def build(self, *, shape, seed, device): ...
        class P(PriorSettings):
            def build(self, *, shape, device): ...
        class K(KernelSettings):
            def build(self): ...
        class S(SamplerSettings):
            def build(self): ...
    """
    (tmp_path / "heavy_plugin.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    import heavy_plugin

    yield {kind: getattr(heavy_plugin, kind[0].upper())() for kind in MUTANTS}
    del sys.modules["heavy_plugin"]


@pytest.mark.parametrize(("kind", "name", "mutant"), PAIRS)
def test_a_check_catches_its_mutant(kind, name, mutant, heavy):
    check = next(check for check in testing.CHECKS[kind] if check.__name__ == name)
    case = testing.make_case(kind, heavy[kind] if mutant is HEAVY else mutant)
    with pytest.raises(AssertionError, match=r"\w+"):
        check(case)


@pytest.mark.parametrize(
    ("kind", "component"),
    [pytest.param(kind, c, id=f"{kind}-{type(c).__name__}") for kind in RIGHT for c in RIGHT[kind]],
)
def test_a_right_component_passes(kind, component):
    heavy = (
        {"settings_import_is_light": "this file imports torch"}
        if isinstance(component, MaskedSettings)
        else {}
    )
    outcomes = testing.check(kind, component, expected_failures=heavy)
    skipped = [o.check for o in outcomes if o.status == "skipped"]
    assert [o.check for o in outcomes if o.status == "expected"] == list(heavy)
    assert set(skipped) <= {
        "settings_described",
        "settings_import_is_light",
        "same_seed_same_operator",
        "calibration",
    }


def test_checks_explain_themselves():
    for kind, checks in testing.CHECKS.items():
        for check in checks:
            text = inspect.getdoc(check)
            assert text, (kind, check)
            assert text.splitlines()[0][0].isupper() or text[0] in "(<|", (kind, check)


def test_not_applicable_is_no_assertion():
    assert not issubclass(NotApplicable, AssertionError)
    assert isinstance(Masked().forward(torch.zeros(1, *SHAPE)), Tensor)
