"""What `daps-kit new noise` writes, beside what is common to all kinds: logistic noise.

See `templates` for the placeholders.
"""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = {
    "summary": "Logistic noise, whose tails are a little heavier than a Gaussian's.",
    "about": "As it stands it is logistic noise; put your own scatter in its place.",
    "trial": "",
    "typing": "",
    "imports": """\
import torch

from daps_kit.testing import parametrize""",
    "$module/__init__.py": '''\
    scale: float = Field(0.03, gt=0, description="scale, in the units of the measurement: 0.55 deviations")

    def model(self) -> Noise:
        """Return the noise model; rounding and saturation (`quantised`, `clipped`) come on top by themselves."""
        from .$name import $Class

        return $Class(self.scale)


@hookimpl
def daps_noises() -> list[type[NoiseSettings]]:
    """Return the settings of this package's noise models."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""Logistic noise: y = a + s log(u / (1 - u)), u uniform in (0, 1), so that with d = (y - a) / s

    log p(y | a) = -|d| - 2 log(1 + exp(-|d|)) - log s,      Var[y | a] = pi^2 s^2 / 3.

Samplers ask for more: misfit, gradient, curvature, the misfit to be expected, probabilities of cells. `Noise` has all
that by autograd, differences, simulation and integrals; a formula of your own in its place is exact and faster.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daps_kit.contracts import Noise, RandomStreams


class $Class(Noise):
    """Logistic noise.

    Args:
        scale: s, positive, in the units of the measurement.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.dispersion = (math.pi * scale) ** 2 / 3

    def sample(self, clean: Tensor, streams: RandomStreams) -> Tensor:
        """Draw y given the clean measurement [B, ...]; sample b uses stream b alone."""
        least = torch.finfo(clean.dtype).eps
        return clean + self.scale * streams.uniform(clean.shape[1:], clean.dtype).logit(eps=least)

    def log_density(self, clean: Tensor, y: Tensor) -> Tensor:
        """Return log p(y | clean), elementwise, [B, ...]; differentiable."""
        d = (y - clean).abs() / self.scale
        return -d - 2 * torch.log1p(torch.exp(-d)) - math.log(self.scale)

    def std(self, clean: Tensor) -> Tensor:
        """Return the standard deviation of y, elementwise, [B, ...]."""
        return torch.full_like(clean, self.dispersion**0.5)
''',
    "tests/test_$name.py": """\

def test_the_density_is_highest_at_the_clean_value():
    here = torch.tensor([[0.2]])
    torch.testing.assert_close($Class(0.1).log_density(here, here).exp(), torch.tensor([[2.5]]))  # 1 / (4 s)
""",
    "recipe.yaml": """\
# The noise model $name with the prior that ships with daps-kit.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded]
operator: {use: gaussian_blur, intensity: 1.0, noise: {use: $name}}
output: results/$name
""",
}
