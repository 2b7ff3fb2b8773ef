"""Each check of noise models catches the fault it is for: a right model passes it, one with that fault does not."""

from __future__ import annotations

import torch

from daps_kit.noise import GaussianNoise, LaplaceNoise, Likelihood, Site
from tests.host.testing.mutants import assert_caught, assert_complete, assert_passes, parametrize


class Right(GaussianNoise):
    def __init__(self):
        super().__init__(0.1)


# --- faults


class Flat(Right):
    def expected_misfit(self, clean):
        return super().expected_misfit(clean).flatten(1)


class Single(Right):
    def log_density(self, clean, y):
        return super().log_density(clean, y).float()


class Unknown(Right):
    def level(self, y):
        return float("inf")


class OthersNoise(Right):
    def sample(self, clean, streams):
        return clean + (super().sample(clean, streams) - clean).flip(0)


class SameNoise(Right):
    def sample(self, clean, streams):
        return (
            clean
            + 0.1
            * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=clean.dtype)[:1]
        )


class GlobalNoise(Right):
    def sample(self, clean, streams):
        return clean + 0.1 * torch.randn(clean.shape, dtype=clean.dtype)


class Overwrites(Right):
    def misfit_grad(self, clean, y):
        return 2 * clean.sub_(y)


class Sharper(Right):
    def log_density(self, clean, y):
        return 1.01 * super().log_density(clean, y)


class WrongGradient(Right):
    def misfit_grad(self, clean, y):
        return 1.02 * super().misfit_grad(clean, y)


class Louder(Right):
    def sample(self, clean, streams):
        return clean + 1.2 * (super().sample(clean, streams) - clean)


class Biased(Right):
    def sample(self, clean, streams):
        return super().sample(clean, streams) + 0.02


class ExpectsLess(Right):
    def expected_misfit(self, clean):
        return 0.9 * super().expected_misfit(clean)


class Wide(Right):
    def std(self, clean):
        return 10 * super().std(clean)


class WrongLevel(Right):
    def level(self, y):
        return 0.01


class Concave(Right):
    def curvature(self, clean, y):
        return 1 - (clean - y).square()


class Pretender(LaplaceNoise):
    gaussian = True

    def __init__(self):
        super().__init__(0.1)


class HalfWeight(Right):
    def curvature(self, clean, y):
        return 0.5


class TooLikely(Right):
    def log_probability(self, clean, lower, upper):
        return super().log_probability(clean, lower, upper) + 0.01


class CellsBeside(Right):
    """All cells together have the right probability."""

    def log_probability(self, clean, lower, upper):
        return super().log_probability(clean + 0.03, lower, upper)


class Tilted(Likelihood):
    def matched(self, mean, variance, start, spread):
        site = super().matched(mean, variance, start, spread)
        return Site(site.centre, site.slope + 3.0, site.weight)


class TiltedSites(Right):
    def likelihood(self, y, variance):
        return Tilted(self, y, variance)


MUTANTS = {
    "shapes_and_types": [Flat(), Single(), Unknown()],
    "independent_in_batch": [OthersNoise(), SameNoise()],
    "no_global_randomness": [GlobalNoise()],
    "input_unchanged": [Overwrites()],
    "misfit_is_likelihood": [Sharper()],
    "gradient": [WrongGradient()],
    "draws_have_the_density": [Louder(), Biased()],
    "expected_misfit": [ExpectsLess()],
    "width": [Wide(), WrongLevel()],
    "curvature_positive": [Concave()],
    "gaussian_as_stated": [Pretender(), HalfWeight()],
    "cells_sum_to_one": [TooLikely(), CellsBeside()],
    "sites_match": [TiltedSites()],
}


@parametrize(MUTANTS)
def test_a_check_catches_its_mutant(name, mutant):
    assert_caught("noise", name, mutant)


def test_every_check_has_a_mutant():
    assert_complete("noise", MUTANTS)


def test_a_right_model_passes():
    assert_passes("noise", Right())
