"""The files that `daps-kit new` writes: for each kind of component a small one that does something real.

Placeholders are those of `string.Template`: $name (of the component), $Class, $module, $distribution and the like.
"""

from __future__ import annotations

from daps_kit.settings import Kind

__all__ = ["COMMON", "KINDS", "WORDS"]

WORDS = ("summary", "about", "trial", "typing", "imports")
"""Keys of a kind's templates that are words in its files, and not files."""

COMMON = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The $kind $name for daps-kit"
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["daps-kit>=$version"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points.daps_kit]
$name = "$module"

[tool.setuptools]
packages = ["$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "README.md": """\
# $distribution

The $kind `$name` for daps-kit. $about

    pip install -e '.[test]'          # now `daps-kit list` shows it
    pytest                            # the conformance kit, and what you add
    daps-kit show $kind/$name
    daps-kit run recipe.yaml

- `$module/__init__.py`: the settings, which a recipe writes. No torch here: every command imports this file.
- `$module/$name.py`: the implementation, imported when a run needs it.
- `tests/test_$name.py`: add an answer that you know by other means.
""",
    "tests/test_$name.py": '''\
"""$Class does what daps-kit's contracts say, and what its formula says."""

$imports
from $module.$name import $Class


@parametrize("$kind", {"use": "$name"}$trial)
def test_conformance(check):
    check()

''',
    "$module/__init__.py": '''\
"""$summary

Importing this module does not import torch: every command does so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from daps_kit.hooks import hookimpl
from daps_kit.settings import ${Kind}Settings

if TYPE_CHECKING:
$typing    from daps_kit.contracts import $Kind


class ${Class}Settings(${Kind}Settings):
    """$summary"""

    name = "$name"
''',
}
"""Files of every kind; those of a kind are added to them, or take their place."""

KINDS: dict[Kind, dict[str, str]] = {}
"""For each kind: words ($summary, $about, ...) by name, and files by path."""

_TORCH = "    import torch\n\n"

KINDS["operator"] = {
    "summary": "Vignetting: the image gets darker from its middle to its corners.",
    "about": "As it stands it darkens an image towards its corners; put your own forward model in its place.",
    "trial": ", shape=(3, 9, 12)",
    "typing": _TORCH,
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

KINDS["prior"] = {
    "summary": "A Gaussian with the falling spectrum of natural images.",
    "about": "As it stands it is a Gaussian with a power-law spectrum; put your own denoiser in its place.",
    "trial": ", shape=(3, 12, 15)",
    "typing": _TORCH,
    "imports": """\
import torch

from daps_kit.testing import parametrize""",
    "$module/__init__.py": '''\
    std: float = Field(0.5, gt=0, description="standard deviation of a pixel (images lie in [-1, 1])")
    slope: float = Field(2.0, ge=0, description="power falls as 1 / (1 + frequency)^slope; 0 is white noise")

    def build(self, *, shape: tuple[int, int, int] | None, device: torch.device) -> Prior:
        """Return the prior."""
        from .$name import $Class

        return $Class(self.std, self.slope)


@hookimpl
def daps_priors() -> list[type[PriorSettings]]:
    """Return the settings of this package's priors."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""x0 ~ N(0, F^H diag(P) F): natural images have power spectra near 1 / frequency^2 (Field, JOSA A 4, 1987).

F is the two-dimensional Fourier transform of each channel, so with the noise level sigma

    E[x0 | x_t]   = F^H diag(P / (P + sigma^2)) F x_t
    Cov[x0 | x_t] = F^H diag(P sigma^2 / (P + sigma^2)) F.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Prior, RandomStreams
from daps_kit.linalg import per_sample


def _filter(v: Tensor, gain: Tensor) -> Tensor:
    """Return F^H diag(gain) F v, [B, C, H, W]."""
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(v) * gain, s=v.shape[-2:])
    return filtered


class $Class(Prior):
    """A Gaussian prior over images of any shape.

    Args:
        std: standard deviation of a pixel.
        slope: P is proportional to 1 / (1 + frequency)^slope, frequency in cycles an image.
    """

    def __init__(self, std: float, slope: float) -> None:
        self.std, self.slope = std, slope

    def power(self, like: Tensor) -> Tensor:
        """Return P on the grid of the real Fourier transform, [H, W // 2 + 1]; a pixel has the variance std^2."""
        height, width = like.shape[-2:]
        down, across = torch.fft.fftfreq(height, 1 / height), torch.fft.fftfreq(width, 1 / width)
        power = (1 + (down[:, None] ** 2 + across**2).sqrt()).to(like) ** -self.slope
        return self.std**2 * power[:, : width // 2 + 1] / power.mean()

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x_t = x], [B, C, H, W]; sigma is a number or one for each sample [B]."""
        power = self.power(x)
        return _filter(x, power / (power + per_sample(sigma, x) ** 2))

    def denoising_covariance(self, sigma: float) -> Covariance:
        """Return Cov[x0 | x_t] at the noise level sigma; samplers that ask for it are exact with this prior."""
        return _Spectral(self, sigma)

    def sample(self, shape: tuple[int, ...], streams: RandomStreams, *, steps: int = 40) -> Tensor:
        """Draw exactly, [B, *shape]."""
        noise = streams.normal(shape)
        return _filter(noise, self.power(noise).sqrt())


class _Spectral(Covariance):
    """F^H diag(P sigma^2 / (P + sigma^2)) F."""

    def __init__(self, prior: $Class, sigma: float) -> None:
        self.prior, self.sigma = prior, sigma

    def variances(self, v: Tensor) -> Tensor:
        """Return P sigma^2 / (P + sigma^2)."""
        power = self.prior.power(v)
        return power * self.sigma**2 / (power + self.sigma**2)

    def scale(self, v: Tensor) -> Tensor:
        """Return C^{1/2} v."""
        return _filter(v, self.variances(v).sqrt())

    def precision(self, v: Tensor) -> Tensor:
        """Return C^{-1} v."""
        return _filter(v, 1 / self.variances(v))
''',
    "tests/test_$name.py": """\

def test_a_constant_image_is_shrunk_by_the_power_of_frequency_zero():
    prior, x = $Class(0.5, 2.0), torch.ones(1, 1, 8, 8, dtype=torch.float64)
    power = float(prior.power(x)[0, 0])
    torch.testing.assert_close(prior.denoise(x, 0.7), x * power / (power + 0.49))
""",
    "recipe.yaml": """\
# The prior $name fills in the hidden pixels of a photograph.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded]
data: {size: 64}
prior: {use: $name}
operator: {use: inpainting, mask: random, mask_prob_range: [0.5, 0.5], noise: {use: gaussian, sigma: 0.05}}
output: results/$name
""",
}

KINDS["kernel"] = {
    "summary": "Langevin dynamics with a Metropolis test, which makes them exact.",
    "about": "As it stands it is the Metropolis-adjusted Langevin algorithm; put your own chain in its place.",
    "trial": "",
    "typing": "",
    "imports": """\
from daps_kit.random import RandomStreams
from daps_kit.testing import parametrize
from daps_kit.testing_problems import Problem""",
    "$module/__init__.py": '''\
    steps: int = Field(100, ge=1, description="steps at each annealing level")
    lr: float = Field(1.0e-4, gt=0, description="step size, in squared units of x")

    def build(self) -> Kernel:
        """Return the kernel."""
        from .$name import $Class

        return $Class(self.steps, self.lr)


@hookimpl
def daps_kernels() -> list[type[KernelSettings]]:
    """Return the settings of this package's kernels."""
    return [${Class}Settings]
''',
    "$module/$name.py": '''\
r"""The Metropolis-adjusted Langevin algorithm.

    x' = x + eta grad log p(x) + sqrt(2 eta) eps,   eps ~ N(0, I),   taken where log u < log a,   u ~ U(0, 1),
    log a = log p(x') - log p(x) - (|x - x' - eta grad log p(x')|^2 - |x' - x - eta grad log p(x)|^2) / (4 eta).

Source: Roberts and Tweedie, Bernoulli 2 (1996), 341-363.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daps_kit.contracts import Kernel, KernelInfo, KernelState, RandomStreams, Target
from daps_kit.linalg import per_sample


def _norm(v: Tensor) -> Tensor:
    """Return the squared norm of each sample, [B]."""
    return v.square().flatten(1).sum(1)


class $Class(Kernel):
    """Langevin dynamics with a Metropolis test.

    Args:
        steps: steps at each level.
        lr: step size eta.
    """

    needs_density = True

    def __init__(self, steps: int, lr: float) -> None:
        self.steps, self.lr = steps, lr
        self.advice = f"take a smaller step size (sampler.kernel.lr, now {lr:g})"

    def init(self, target: Target, x: Tensor, streams: RandomStreams) -> KernelState:
        """Return chains at x; one that starts where there is no density is lost (not-a-number)."""
        density, gradient = target.log_density_grad(x)
        lost = ~torch.isfinite(density) | ~torch.isfinite(_norm(gradient))
        return KernelState(torch.where(per_sample(lost, x) > 0, torch.nan, x), density, gradient)

    def step(
        self, target: Target, state: KernelState, streams: RandomStreams
    ) -> tuple[KernelState, KernelInfo]:
        """Take one step; draws a normal number an entry of x, then a uniform one a sample."""
        x, density, gradient, eta = state.x, state.log_density, state.gradient, self.lr
        assert density is not None and gradient is not None
        proposal = x + eta * gradient + (2 * eta) ** 0.5 * streams.normal(x.shape[1:], x.dtype)
        new_density, new_gradient = target.log_density_grad(proposal)
        back, forth = _norm(x - proposal - eta * new_gradient), _norm(proposal - x - eta * gradient)
        log_a = new_density - density - (back - forth) / (4 * eta)
        accepted = streams.uniform((), x.dtype).log() < log_a  # false where it is not a number
        rows = per_sample(accepted, x) > 0
        state = KernelState(
            torch.where(rows, proposal, x),
            torch.where(accepted, new_density, density),
            torch.where(rows, new_gradient, gradient),
        )
        acceptance = torch.nan_to_num(log_a, nan=-torch.inf).clamp_max(0).exp()
        return state, KernelInfo(acceptance=acceptance, step_size=eta)
''',
    "tests/test_$name.py": """\

def test_a_small_step_is_nearly_always_accepted():
    target = Problem.of(variance=1.0, likelihood_variance=0.01).target(2)
    _, info = $Class(steps=20, lr=1e-3).run(target, target.centre, RandomStreams([1, 2]))
    assert float(info.acceptance.min()) > 0.99
""",
    "recipe.yaml": """\
# The kernel $name in DAPS, with the prior that ships with daps-kit.
# Run it with `daps-kit run recipe.yaml`.
format: 1
extends: [parts/embedded, parts/daps-100]
operator: {use: inpainting, mask: random, noise: {use: gaussian, sigma: 0.05}}
sampler: {kernel: {use: $name}}
output: results/$name
""",
}

KINDS["sampler"] = {
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
    GaussianNoise,
    KernelInfo,
    LinearOperator,
    Operator,
    Prior,
    RandomStreams,
    Sampler,
    Step,
)
from daps_kit.errors import UserError
from daps_kit.linalg import conjugate_gradients


class _Isotropic(Covariance):
    """sigma^2 I, for priors that do not know their denoising error."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def scale(self, v: Tensor) -> Tensor:
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
        if not isinstance(operator, LinearOperator) or not isinstance(operator.noise, GaussianNoise):
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
            places = ", ".join(str(int(b)) for b in (failed & ~lost).nonzero())
            messages = (f"sample {places} at sigma {sigma:.3g}: not a number",) if places else ()
            lost = lost | failed
            yield Step(level, len(sigmas), sigma, x_t, x0hat, x0y, failed, KernelInfo(), messages)
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
        v = operator.noise.dispersion

        def normal(u: Tensor) -> Tensor:
            image = operator.adjoint(operator.forward(covariance.scale(u)))
            return u + covariance.scale(image) / v

        w = streams.normal(mean.shape[1:], mean.dtype)
        e = operator.project(v**0.5 * streams.normal(y.shape[1:], y.dtype))
        residual = y - operator.forward(mean + covariance.scale(w)) - e
        u, _ = conjugate_gradients(normal, covariance.scale(operator.adjoint(residual)) / v)
        return mean + covariance.scale(w + u)
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
