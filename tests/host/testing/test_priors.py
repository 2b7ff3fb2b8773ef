"""Each check of priors catches the fault it is for: a right prior passes it, one with that fault does not."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from daps_kit.contracts import Prior
from tests.host.testing.mutants import assert_caught, assert_complete, assert_passes, parametrize


class Gaussian(Prior):
    """x0 ~ N(0.2, 0.5^2)."""

    def denoise(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return 0.2 + (x - 0.2) * 0.25 / (0.25 + level**2)

    def sample(self, shape, streams, *, steps=40):
        return 0.2 + 0.5 * streams.normal(shape)


# --- faults


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
        return SimpleNamespace(sqrt=lambda v: v * (0.5 * 0.25 * sigma**2 / (0.25 + sigma**2)) ** 0.5)


MUTANTS = {
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
}


def test_every_check_has_a_mutant():
    assert_complete("prior", MUTANTS)


@parametrize(MUTANTS)
def test_a_check_catches_its_mutant(name, mutant):
    assert_caught("prior", name, mutant)


def test_a_right_prior_passes():
    assert_passes("prior", Gaussian())
