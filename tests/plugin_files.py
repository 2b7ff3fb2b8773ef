"""A file of Python with a component of each kind, for tests of plugins without a package."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
from typing import Annotated, Literal

from pydantic import Field

import daps_kit


@daps_kit.operator(linear=True)
def dim(x, strength: Annotated[float, Field(ge=0, le=1)] = 0.5, side: Literal["left", "both"] = "both"):
    """Every value times one less the strength.

    Args:
        strength: share of the light
            that is lost.
    """
    return x * (1 - strength)


@daps_kit.operator
def curve(x, power: float = 1.5):
    """A camera's curve of brightness."""
    return ((x + 1.2) / 2).clamp_min(1e-3) ** power


@daps_kit.prior(sigma_range=(0.001, 100))
def pixels(x, sigma, std: float = 0.5):
    """Independent Gaussian pixels of mean zero."""
    return x * std**2 / (std**2 + sigma**2)


@daps_kit.noise
def normal_like(clean, scale: float = 0.1):
    """Gaussian noise, by its distribution."""
    import torch

    return torch.distributions.Normal(clean, scale)
'''

RECIPE = """\
format: 1
plugins: [my_operator.py]
data: {use: prior, count: 1, image_shape: [1, 8, 8]}
prior: {use: pixels}
operator: {use: dim, strength: 0.25}
sampler: {use: daps, budget: 5}
output: out
"""


def write_plugin(folder: Path, source: str = SOURCE, name: str = "my_operator.py") -> Path:
    """Write the file into a folder and return it."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")
    return file
