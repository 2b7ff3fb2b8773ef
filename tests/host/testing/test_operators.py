"""Each check of operators catches the fault it is for: a right operator passes it, one with that fault does not."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from daps_kit import testing
from daps_kit.contracts import GaussianNoise, LinearOperator, Operator
from daps_kit.modes import Modes
from daps_kit.settings import DrawnOperatorSettings
from tests.host.testing.mutants import assert_caught, assert_complete, parametrize

SHAPE = (3, 8, 8)
NOISE = GaussianNoise(0.1)


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


class MaskedSettings(DrawnOperatorSettings):
    """Half of the pixels, doubled."""

    name = "masked"
    operator: str = Field("", description="the faulty class to build instead of the right one")

    def build(self, *, shape, seed, device):
        return OPERATORS.get(self.operator, Masked)(shape, seed)


# --- faults


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


class NotOrthonormal(Masked):
    orthonormal = True


class WrongSolve(Masked):
    def solve_normal(self, b, weight):
        return b / (self.mask.to(b) + torch.as_tensor(weight).reshape(-1, 1, 1, 1).to(b))


class OneWeight(Masked):
    def solve_normal(self, b, weight):
        return b / (self.mask.to(b) ** 2 + torch.as_tensor(weight).reshape(-1)[0].to(b))


class Pixels(Modes):
    """The patterns of a mask: pixels."""

    def __init__(self, shape, gain):
        self.shape, self.gain, self.count = shape, gain, torch.ones_like(gain)

    def coordinates(self, w):
        return w

    domain = measured = measured_transposed = coordinates


class Stretched(Pixels):
    def domain(self, c):
        return 1.01 * c


class Lossy(Pixels):
    def measured_transposed(self, y):
        return 0.99 * y


class Turned(Pixels):
    def seen_transposed(self, c, share):
        return (1 + share) * c


class Twofold(Pixels):
    def __init__(self, shape, gain):
        super().__init__(shape, gain)
        self.count = 2 * self.count


class Mirrored(Pixels):
    def placed(self, x):
        return x.flip(-1)


class NotElementwise(Masked):
    elementwise = True

    def forward(self, x):
        return super().forward(x) + 0.1 * x.mean((1, 2, 3), keepdim=True)


class Bent(Masked):
    """Says that it is linear between kinks, but is not."""

    elementwise, kinks = True, (-0.5, 0.5)

    def forward(self, x):
        return super().forward(x.tanh())


def with_modes(kind, gain=1.0):
    """Return a mask that says which its patterns are."""

    class Known(Masked):
        def modes(self, like):
            return kind(self.shape, gain * self.mask.to(like).clamp_min(1e-6))

    return Known()


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


def with_settings(name):
    return MaskedSettings(operator=name, draw="per_image")


MUTANTS = {
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
    "dot_test": [WrongAdjoint(), NotOrthonormal()],
    "solve_normal": [WrongSolve(), OneWeight()],
    "modes": [with_modes(Pixels, 1.01), *map(with_modes, (Stretched, Lossy, Turned, Twofold, Mirrored))],
    "elementwise": [NotElementwise(), Bent()],
    "same_seed_same_operator": [with_settings("Unseeded"), with_settings("OneForAll")],
    "stack": [with_settings("FirstOfStack")],
}


def test_every_check_has_a_mutant():
    assert_complete("operator", MUTANTS)


@parametrize(MUTANTS)
def test_a_check_catches_its_mutant(name, mutant):
    assert_caught("operator", name, mutant)


def test_right_modes_pass():
    assert all(outcome.status != "failed" for outcome in testing.check_operator(with_modes(Pixels)))


def test_a_right_operator_passes():
    outcomes = testing.check_operator(Masked())
    unsettled = ["same_seed_same_operator", "settings_described", "settings_import_is_light"]
    assert [o.check for o in outcomes if o.status == "skipped"] == unsettled
    heavy = {"settings_import_is_light": "this file imports torch"}
    outcomes = testing.check_operator(MaskedSettings(draw="per_image"), expected_failures=heavy)
    assert [o.check for o in outcomes if o.status != "passed"] == list(heavy)
