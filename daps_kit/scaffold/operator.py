"""What `daps-kit new operator` writes, beside what is common to all kinds: vignetting.

See `templates` for the placeholders.
"""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = {
    "summary": "Vignetting: the image gets darker from its middle to its corners.",
    "about": "As it stands it darkens an image towards its corners; put your own forward model in its place.",
    "trial": ", shape=(3, 9, 12)",
    "typing": "    import torch\n\n",
    "imports": """\
import torch

from daps_kit.contracts import GaussianNoise
from daps_kit.testing import parametrize""",
    "$module/__init__.py": '''\
    edge: float = Field(0.3, gt=0, le=1, description="brightness in the corners, in the middle it is 1")

    def build(self, *, shape: tuple[int, int, int], seed: int, device: torch.device) -> Operator:
        """Return the operator; draw what is random in it from `seed`."""
        from .$name import $Class

        return $Class(shape, self.noise.build(), self.edge)


@hookimpl
def daps_operators() -> list[type[OperatorSettings]]:
    """Return the settings of this package's operators."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""Vignetting, y = g x with g = edge^{r^2}, r the distance from the middle (1 in the corners).

A is diagonal, so A^T = A and (A^T A + w I)^{-1} b = b / (g^2 + w).
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import LinearOperator, Noise
from daps_kit.linalg import per_sample


class $Class(LinearOperator):
    """Darker from the middle to the corners.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        edge: brightness in the corners, in (0, 1].
    """

    def __init__(self, shape: tuple[int, int, int], noise: Noise, edge: float) -> None:
        super().__init__(shape, noise)
        down, across = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in shape[1:])
        self.gain = edge ** ((down[:, None] ** 2 + across**2) / 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return g x, [B, C, H, W]."""
        return x * self.gain.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return g y, [B, C, H, W]."""
        return y * self.gain.to(y)

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return b / (g^2 + w)."""
        return b / (self.gain.to(b) ** 2 + per_sample(weight, b))
''',
    "tests/test_$name.py": """\

def test_corners_have_the_brightness_of_the_edge():
    y = $Class((1, 5, 5), GaussianNoise(0.1), 0.3).forward(torch.ones(1, 1, 5, 5))
    torch.testing.assert_close(y[0, 0, [0, 2, 4], [0, 2, 4]], torch.tensor([0.3, 1.0, 0.3]))
""",
    "recipe.yaml": """\
# The operator $name with the prior that ships with daps-kit.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded]
operator: {use: $name, noise: {use: gaussian, sigma: 0.05}}
output: results/$name
""",
}
