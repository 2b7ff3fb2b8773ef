"""What `daps-kit new sampler` writes, beside what is common to all kinds: decoupled annealing with exact draws.

See `templates` for the placeholders.
"""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = {
    "summary": "Decoupled annealing with exact draws, for linear operators and Gaussian noise.",
    "about": "As it stands it draws each x0 by conjugate gradients, without a chain; put your own method in its place.",
    "trial": "",
    "typing": "",
    "imports": """\
import torch

from daps_kit import build
from daps_kit.testing import parametrize""",
    "$module/__init__.py": '''\
    levels: int = Field(30, ge=1, description="how many noise levels")
    sigma_max: float = Field(20.0, gt=0, description="the first noise level (images lie in [-1, 1])")
    sigma_min: float = Field(0.05, gt=0, description="the last noise level")

    def build(self) -> Sampler:
        """Return the sampler."""
        from .$name import $Class

        return $Class(self.levels, self.sigma_max, self.sigma_min)


@hookimpl
def daps_samplers() -> list[type[SamplerSettings]]:
    """Return the settings of this package's samplers."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""Decoupled annealing (Zhang et al., arXiv 2407.01521) with p(x0 | x_t) = N(D(x_t), C), drawn exactly.

At each noise level, with B = A C^{1/2} and noise of variance v, perturb and optimise (Papandreou and Yuille, 2010):

    w ~ N(0, I),  e ~ N(0, v I),   (I + B^T B / v) u = B^T (y - A D - B w - e) / v,   x0y = D + C^{1/2} (w + u)

is a sample of p(x0 | x_t, y), and x_t = x0y + sigma n starts the next level.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from daps_kit.contracts import (
    Covariance,
    KernelInfo,
    LinearOperator,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
)
from daps_kit.errors import UserError
from daps_kit.failures import Failure
from daps_kit.linalg import conjugate_gradients


class _Isotropic(Covariance):
    """sigma^2 I, for priors that do not know their denoising error."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def sqrt(self, v: Tensor) -> Tensor:
        """Return sigma v."""
        return self.sigma * v

    def precision(self, v: Tensor) -> Tensor:
        """Return v / sigma^2."""
        return v / self.sigma**2


class $Class(Sampler):
    """Decoupled annealing with exact draws.

    Args:
        levels: how many noise levels, in equal ratios.
        sigma_max, sigma_min: the first and the last.
    """

    def __init__(self, levels: int, sigma_max: float, sigma_min: float) -> None:
        self.levels, self.sigma_max, self.sigma_min = levels, sigma_max, sigma_min

    def sigmas(self, prior: Prior) -> list[float]:
        """Return the noise levels, inside what the prior knows."""
        low, high = prior.sigma_range
        first, last = (min(max(sigma, low), high) for sigma in (self.sigma_max, self.sigma_min))
        return [first * (last / first) ** (i / max(self.levels - 1, 1)) for i in range(self.levels)]

    def sample(self, prior: Prior, operator: Operator, y: Tensor, streams: RandomStreams) -> Iterator[Step]:
        """Yield one Step a level; the x0y of the last is the sample.

        Raises:
            UserError: the operator is not linear, its noise is not Gaussian, or the prior is latent.
        """
        if not isinstance(operator, LinearOperator) or not operator.noise.gaussian:
            raise UserError("sampler $name needs a linear operator and Gaussian noise")
        if prior.latent:
            raise UserError("sampler $name works on pixels: a decoder is not linear")
        sigmas = self.sigmas(prior)
        x_t = sigmas[0] * streams.normal(operator.shape, y.dtype)
        lost = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        for level, sigma in enumerate(sigmas):
            with torch.no_grad():
                x0hat = prior.denoise(x_t, sigma)
                x0y = self.draw(prior, operator, y, x0hat, sigma, streams)
            failed = ~torch.isfinite(x0y).flatten(1).all(1)
            failures = tuple(
                Failure(int(b), level, len(sigmas), sigma, "nan", "look at the measurement and at the prior")
                for b in (failed & ~lost).nonzero()
            )
            lost = lost | failed
            yield Step(
                level, len(sigmas), sigma, x_t, x0hat, x0y, failed, KernelInfo(), failures=failures
            )
            if level + 1 < len(sigmas):
                x_t = x0y + sigmas[level + 1] * streams.normal(operator.shape, y.dtype)

    def draw(
        self,
        prior: Prior,
        operator: LinearOperator,
        y: Tensor,
        mean: Tensor,
        sigma: float,
        streams: RandomStreams,
    ) -> Tensor:
        """Return a sample of p(x0 | x_t, y), [B, C, H, W]."""
        covariance = prior.denoising_covariance(sigma) or _Isotropic(sigma)
        precision = operator.noise.curvature(y, y) / operator.noise.dispersion

        def normal(u: Tensor) -> Tensor:
            image = operator.adjoint(precision * operator.forward(covariance.sqrt(u)))
            return u + covariance.sqrt_transposed(image)

        w = streams.normal(mean.shape[1:], mean.dtype)
        e = operator.project(precision**-0.5 * streams.normal(y.shape[1:], y.dtype))
        residual = y - operator.forward(mean + covariance.sqrt(w)) - e
        b = covariance.sqrt_transposed(operator.adjoint(precision * residual))
        u, _ = conjugate_gradients(normal, b)
        return mean + covariance.sqrt(w + u)
''',
    "tests/test_$name.py": """\

def test_levels_fall_in_equal_ratios():
    prior = build("prior", {"use": "gaussian"})
    sigmas = torch.tensor($Class(4, 8.0, 1.0).sigmas(prior))
    torch.testing.assert_close(sigmas, torch.tensor([8.0, 4.0, 2.0, 1.0]))
""",
    "recipe.yaml": """\
# The sampler $name with the prior that ships with daps-kit.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded]
operator: {use: inpainting, mask: random, noise: {use: gaussian, sigma: 0.05}}
sampler: {use: $name}
output: results/$name
""",
}
