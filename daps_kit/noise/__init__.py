"""Noise: how a measurement scatters around the clean one. What a noise model must do, and the models that ship."""

import sys
from types import ModuleType
from typing import Any

import daps_kit

from .gaussian import GaussianNoise, SampleNoise
from .heavy_tails import LaplaceNoise, StudentNoise
from .model import Likelihood, Noise, Site, StackedNoise
from .poisson import PoissonNoise
from .poisson_gaussian import PoissonGaussianNoise
from .recorded import RecordedNoise

__all__ = [
    "GaussianNoise",
    "LaplaceNoise",
    "Likelihood",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "RecordedNoise",
    "SampleNoise",
    "Site",
    "StackedNoise",
    "StudentNoise",
]


class _Decorator(ModuleType):
    """This package, which is called as the decorator that it shares its name with."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return daps_kit.__getattr__("noise")(*args, **options)


sys.modules[__name__].__class__ = _Decorator
