"""What `daps-kit new prior` writes, beside what is common to all kinds: a Gaussian with a power-law spectrum.

See `templates` for the placeholders.
"""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = {
    "summary": "A Gaussian with the falling spectrum of natural images.",
    "about": "As it stands it is a Gaussian with a power-law spectrum; put your own denoiser in its place.",
    "trial": ", shape=(3, 12, 15)",
    "typing": "    import torch\n\n",
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

    def sqrt(self, v: Tensor) -> Tensor:
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
