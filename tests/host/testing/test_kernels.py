"""Each check of kernels catches the fault it is for: a right kernel passes it, one with that fault does not."""

from __future__ import annotations

from dataclasses import replace

import torch

from daps_kit.contracts import Kernel, KernelInfo, KernelState
from tests.host.testing.mutants import assert_caught, assert_complete, assert_passes, parametrize


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


# --- faults


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
        return x.nan_to_num(), replace(info, failures=())


class Spreads(Langevin):
    def run(self, target, x, streams):
        x, info = super().run(target, x, streams)
        return (x * 0, info) if info.failures else (x, info)


class NoAdvice(Langevin):
    advice = ""


class WrongLevel(Langevin):
    def run(self, target, x, streams):
        x, info = super().run(target, x, streams)
        return x, replace(info, failures=tuple(replace(f, sigma=2 * f.sigma) for f in info.failures))


class GlobalKernel(Langevin):
    def step(self, target, state, streams):
        _, gradient = target.log_density_grad(state.x)
        noise = torch.randn_like(state.x)
        return KernelState(state.x + self.eta * gradient + (2 * self.eta) ** 0.5 * noise), KernelInfo()


class MovesCentre(Langevin):
    def init(self, target, x, streams):
        return KernelState(x.add_(1e-3))


MUTANTS = {
    "shapes": [Flat()],
    "invariant_mean": [Shifted()],
    "invariant_covariance": [MissingHalf()],
    "moves": [Still()],
    "same_streams_same_chain": [Unrepeatable()],
    "independent_in_batch": [Coupled()],
    "reports_not_a_number": [SilentZero(), Spreads(), NoAdvice(), WrongLevel()],
    "no_global_randomness": [GlobalKernel()],
    "input_unchanged": [MovesCentre()],
}


def test_every_check_has_a_mutant():
    assert_complete("kernel", MUTANTS)


@parametrize(MUTANTS)
def test_a_check_catches_its_mutant(name, mutant):
    assert_caught("kernel", name, mutant)


def test_a_right_kernel_passes():
    assert_passes("kernel", Langevin())
