r"""Conformance checks of diffusion priors. Each is a function of a `PriorCase`.

For x_t = x0 + sigma n with x0 drawn from the prior, d numbers in x0, and the denoiser D:

    score          s = (D - x_t) / sigma^2, and E|s|^2 = -E[div s]             (integration by parts)
    small sigma    E|D - x_t|^2 = sigma^4 E|s|^2 <= sigma^2 d                  (Cramer-Rao: so D -> x_t)
    large sigma    D -> E[x0], whatever x_t
    calibration    E|D - x0|^2 = tr C_sigma, and sigma^2 E[div D] where the prior does not know C_sigma
                                                                               (Stein, Ann. Stat. 9, 1981)

Expectations are means over `PriorCase.count` samples, compared within five standard errors plus an allowance for the
prior's error: 3 % for one that draws its samples exactly, a factor of 2 for one whose samples come from its own ODE.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from daps_kit.contracts import Prior, Shape

from .base import (
    Z_LIMIT,
    Case,
    NotApplicable,
    expect,
    expect_no_global_randomness,
    expect_unchanged,
    near,
    rows,
    same,
    settings_described,
    settings_import_is_light,
    streams,
    tensor,
)

__all__ = ["CHECKS", "PriorCase"]


class PriorCase(Case):
    """A prior under test, and what it is tried on.

    Args:
        what: a section, settings, or a prior.
        shape: (C, H, W) of the images where the prior serves any.
    """

    def __init__(self, what: Any, shape: Shape | None = None) -> None:
        super().__init__("prior", what)
        self._shape = shape

    @cached_property
    def prior(self) -> Prior:
        """The prior."""
        if self.settings is None:
            given: Prior = self.what
            return given
        built: Prior = self.settings.build(shape=self._shape, device=torch.device("cpu"))
        return built

    @property
    def shape(self) -> Shape:
        """Shape of the images."""
        return self.prior.shape or self._shape or (self.prior.channels or 3, 16, 16)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of what is diffused."""
        return self.prior.state_shape(self.shape)

    @property
    def exact(self) -> bool:
        """Whether the prior draws its samples exactly, rather than by its own denoiser."""
        return type(self.prior).sample is not Prior.sample

    @property
    def count(self) -> int:
        """How many samples expectations are taken over."""
        return 64 if self.exact else 12

    @property
    def allowance(self) -> float:
        """The relative error that expectations are allowed, beside standard errors."""
        return 0.03 if self.exact else 1.0

    def sigma(self, wanted: float) -> float:
        """Return the noise level nearest to the wanted one that the prior allows."""
        low, high = self.prior.sigma_range
        return min(max(wanted, low), high)

    @cached_property
    def samples(self) -> Tensor:
        """Samples of the prior, before decoding, [count, ...]."""
        with torch.no_grad():
            return self.prior.sample(self.state_shape, streams(*range(self.count)), steps=18)

    def noisy(self, sigma: float, count: int | None = None) -> Tensor:
        """Return samples with noise, x0 + sigma n."""
        x0 = self.samples[:count]
        return x0 + sigma * tensor(31, x0.shape, x0.dtype)

    def divergence(self, x: Tensor, sigma: float) -> Tensor:
        """Return an unbiased estimate of div D of each sample, [B], by Hutchinson's method."""
        probe = tensor(32, x.shape, x.dtype).sign()
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            denoised = self.prior.denoise(leaf, sigma)
            (product,) = torch.autograd.grad(denoised, leaf, probe)
        return (product * probe).flatten(1).sum(1)


def _ratio(case: PriorCase, got: Tensor, wanted: Tensor, what: str) -> None:
    """Expect two means over samples [B] to agree, in the sense that the module's docstring states."""
    got, wanted = got.double(), wanted.double()
    error = float((got - wanted).mean())
    standard = float((got - wanted).std()) / len(got) ** 0.5
    mean = float(wanted.mean())
    allowed = Z_LIMIT * standard + case.allowance * abs(mean)
    expect(
        abs(error) <= allowed,
        f"{what}: {float(got.mean()):.4g} against {mean:.4g}, allowed +-{allowed:.2g}",
    )


def shapes(case: PriorCase) -> None:
    """Denoising and scores keep the shape; the declared ranges make sense."""
    low, high = case.prior.sigma_range
    expect(0 <= low < high, f"sigma_range must be 0 <= low < high, got {case.prior.sigma_range}")
    if case.prior.shape is not None:
        expect(len(case.prior.shape) == 3, f"shape must be (C, H, W) or None, got {case.prior.shape}")
    for count in (1, 3):
        x = tensor(1, (count, *case.state_shape))
        for name, method in (("denoise", case.prior.denoise), ("score", case.prior.score)):
            with torch.no_grad():
                form = tuple(method(x, case.sigma(0.5)).shape)
            expect(form == tuple(x.shape), f"{name} of the shape {tuple(x.shape)} returned {form}")


def dtypes(case: PriorCase) -> None:
    """Float32 in, float32 out; float64 in, float64 out; on the device of the images."""
    for dtype in (torch.float32, torch.float64):
        x = tensor(1, (2, *case.state_shape), dtype)
        with torch.no_grad():
            for got in (case.prior.denoise(x, case.sigma(0.5)), case.prior.score(x, case.sigma(0.5))):
                expect(got.dtype == dtype, f"{dtype} in, {got.dtype} out")
                expect(got.device == x.device, f"images on {x.device}, result on {got.device}")


def deterministic(case: PriorCase) -> None:
    """The same arguments give the same result, whatever was asked in between."""
    x = tensor(1, (2, *case.state_shape))
    with torch.no_grad():
        first = case.prior.denoise(x, case.sigma(0.5))
        case.prior.denoise(x.flip(0), case.sigma(2.0))
        same(
            case.prior.denoise(x, case.sigma(0.5)),
            first,
            "a second call with the same arguments gave another result",
        )


def no_global_randomness(case: PriorCase) -> None:
    """Denoising and sampling neither read nor move global random states."""
    x = tensor(1, (1, *case.state_shape))

    def use() -> list[Tensor]:
        with torch.no_grad():
            drawn = case.prior.sample(case.state_shape, streams(1), steps=3)
            return [case.prior.denoise(x, case.sigma(0.5)), drawn]

    expect_no_global_randomness(use)


def input_unchanged(case: PriorCase) -> None:
    """No method changes its arguments."""
    x, sigma = tensor(1, (2, *case.state_shape)), torch.tensor([case.sigma(0.5), case.sigma(1.0)])
    image = case.prior.decode(x).detach()

    def use() -> None:
        with torch.no_grad():
            for method in (case.prior.denoise, case.prior.score):
                method(x, sigma)
            case.prior.decode(x)
            case.prior.encode(image)

    expect_unchanged(use, x=x, sigma=sigma, image=image)


def batch_equals_single(case: PriorCase) -> None:
    """A sample's result does not depend on the rest of the batch; nor does a draw from the prior."""
    x, sigma = tensor(1, (3, *case.state_shape)), case.sigma(0.5)
    with torch.no_grad():
        alone = rows(lambda b: case.prior.denoise(x[b : b + 1], sigma), 3)
        near(case.prior.denoise(x, sigma), alone, 1e-4, "a sample denoised in a batch and alone")
        drawn = case.prior.sample(case.state_shape, streams(4, 5), steps=3)
        alone = rows(lambda b: case.prior.sample(case.state_shape, streams(4 + b), steps=3), 2)
        near(drawn, alone, 1e-3, "a sample drawn in a batch and alone")


def per_sample_sigma(case: PriorCase) -> None:
    """A tensor of noise levels means one for each sample; a 0-d tensor means the same as a number."""
    levels = [case.sigma(level) for level in (0.1, 0.5, 3.0)]
    x = case.samples[:3] + torch.tensor(levels).reshape(-1, *(1,) * len(case.state_shape)).to(
        case.samples
    ) * tensor(2, (3, *case.state_shape), case.samples.dtype)
    with torch.no_grad():
        for name, method in (("denoise", case.prior.denoise), ("score", case.prior.score)):
            single = [method(x[b : b + 1], level) for b, level in enumerate(levels)]
            together = method(x, torch.tensor(levels))
            for b, level in enumerate(levels):
                near(
                    together[b : b + 1], single[b], 1e-4, f"{name} with [B] noise levels and with {level:.3g}"
                )
            near(method(x, torch.tensor(levels[1])), method(x, levels[1]), 1e-4, f"{name} with a 0-d tensor")


def score_is_tweedies(case: PriorCase) -> None:
    """The score is (D - x) / sigma^2, and is the score of the distribution of x_t: E|s|^2 = -E[div s]."""
    for level in (0.3, 2.0):
        sigma = case.sigma(level)
        x = case.noisy(sigma)
        with torch.no_grad():
            score, denoised = case.prior.score(x, sigma), case.prior.denoise(x, sigma)
        near(score, (denoised - x) / sigma**2, 1e-4, f"score and (D - x) / sigma^2 at sigma {sigma:.3g}")
        size = x[0].numel()
        norm = score.double().square().flatten(1).sum(1) * sigma**2 / size
        divergence = (size - case.divergence(x, sigma).double()) / size
        _ratio(case, norm, divergence, f"sigma^2 E|s|^2 / d and -sigma^2 E[div s] / d at sigma {sigma:.3g}")


def limit_small_sigma(case: PriorCase) -> None:
    """D(x, sigma) -> x as sigma -> 0: the root mean square of D - x is at most sigma, plus a half."""
    smallest = max(case.prior.sigma_range[0], 2e-3)
    for sigma in (smallest, 4 * smallest):
        x = case.noisy(sigma, 4)
        with torch.no_grad():
            moved = float((case.prior.denoise(x, sigma) - x).double().square().mean().sqrt())
        expect(
            moved <= 1.5 * sigma, f"|D - x| is {moved / sigma:.2f} sigma at sigma {sigma:.3g}, allowed 1.5"
        )


def limit_large_sigma(case: PriorCase) -> None:
    """D(x, sigma) -> E[x0] as sigma -> infinity: nearly the same for any x, and near the mean of samples."""
    sigma = min(case.prior.sigma_range[1], 1e4)
    x = case.noisy(sigma, 8)
    with torch.no_grad():
        denoised = case.prior.denoise(x, sigma).double()
    spread = float((denoised - denoised.mean(0)).square().sum(0).div(len(x) - 1).mean().sqrt())
    # |D - E x0| is about |C n| / sigma with C the prior's covariance, whose eigenvalues are at most about d.
    size = x[0].numel()
    allowed = min(0.05 + size**0.5 / sigma, 0.5)
    expect(spread <= allowed, f"D varies by {spread:.3g} with x at sigma {sigma:.3g}, allowed {allowed:.2g}")
    means = case.samples.double().flatten(1).mean(1)
    gap = float(denoised.mean() - means.mean())
    limit = Z_LIMIT * float(means.std()) / len(means) ** 0.5 + allowed
    expect(
        abs(gap) <= limit,
        f"D is {gap:+.3g} off the mean of samples at sigma {sigma:.3g}, allowed {limit:.2g}",
    )


def differentiable(case: PriorCase) -> None:
    """Autograd through D gives its derivative, by central differences."""
    sigma = case.sigma(0.5)
    x = case.noisy(sigma, 2).double()
    v, u, h = tensor(5, x.shape, x.dtype), tensor(6, x.shape, x.dtype), 0.01 * sigma
    leaf = x.clone().requires_grad_()
    denoised = case.prior.denoise(leaf, sigma)
    expect(denoised.requires_grad, "denoise cuts the graph: its result does not require a gradient")
    (gradient,) = torch.autograd.grad(denoised, leaf, u)
    with torch.no_grad():
        change = (case.prior.denoise(x + h * v, sigma) - case.prior.denoise(x - h * v, sigma)) / (2 * h)
    wanted, got = (float((a * b).double().sum()) for a, b in ((change, u), (gradient, v)))
    scale = float(change.double().norm() * u.norm())
    expect(
        abs(got - wanted) <= 0.01 * scale, f"<u, J v> is {got:.4g} by autograd, {wanted:.4g} by differences"
    )


def value_range(case: PriorCase) -> None:
    """Finite at both ends of sigma, on the scale of images, and E|D|^2 <= E|x0|^2."""
    low, high = case.sigma(2e-3), case.sigma(80.0)
    size = float(case.samples.double().square().mean())
    expect(size < 9, f"the root mean square of samples is {size**0.5:.3g}; images lie in [-1, 1]")
    for sigma in (low, case.sigma(0.5), high):
        x = case.noisy(sigma, 8)
        with torch.no_grad():
            denoised = case.prior.denoise(x, sigma)
            far = case.prior.denoise(torch.full_like(x[:1], 5.0), sigma)
        expect(
            torch.isfinite(denoised).all() and torch.isfinite(far).all(),
            f"D is not finite at sigma {sigma:.3g}",
        )
        mean = float(denoised.double().square().mean())
        expect(
            mean <= 1.5 * size + 0.05, f"E D^2 is {mean:.3g} at sigma {sigma:.3g}, but E x0^2 is {size:.3g}"
        )


def decode_encode(case: PriorCase) -> None:
    """Pixels: both are the identity. Latents: shapes fit, decode(encode(image)) is the image, and a gradient comes
    through."""
    z = case.samples[:2]
    image = case.prior.decode(z)
    if not case.prior.latent:
        same(image, z, "decode of a prior over pixels must be the identity")
        same(case.prior.encode(z), z, "encode of a prior over pixels must be the identity")
        expect(
            case.state_shape == tuple(case.shape), f"state_shape is {case.state_shape}, images {case.shape}"
        )
        return
    expect(
        tuple(image.shape) == (2, *case.shape),
        f"decode returned {tuple(image.shape)}, images are {case.shape}",
    )
    with torch.no_grad():
        again = case.prior.encode(image.detach())
        expect(again.shape == z.shape, f"encode returned {tuple(again.shape)}, latents are {tuple(z.shape)}")
        error = float((case.prior.decode(again) - image).double().square().mean().sqrt())
    scale = float(image.detach().double().std())
    expect(
        error <= 0.5 * scale,
        f"decode(encode(image)) is {error:.3g} off an image of standard deviation {scale:.3g}",
    )
    leaf = z.detach().clone().requires_grad_()
    expect(
        case.prior.decode(leaf).requires_grad,
        "decode cuts the graph: a likelihood could not reach the latent",
    )


def calibration(case: PriorCase) -> None:
    """The mean squared denoising error is what the prior states, or what its derivative implies."""
    x, sigma = case.noisy(case.sigma(1.0)), case.sigma(1.0)
    if case.prior.conditional_covariance(x, sigma) is None and not case.exact:
        raise NotApplicable("the prior neither states its denoising error nor draws exactly")
    for level in (0.2, 1.0):
        sigma = case.sigma(level)
        x = case.noisy(sigma)
        with torch.no_grad():
            error = (case.prior.denoise(x, sigma) - case.samples).double().square().flatten(1).mean(1)
        stated = stated_error(case, x, sigma)
        _ratio(case, error, stated, f"mean squared denoising error at sigma {sigma:.3g}")


def stated_error(case: PriorCase, x: Tensor, sigma: float) -> Tensor:
    """Return the mean squared error that the prior states (or implies by sigma^2 div D), estimated a sample, [B]."""
    covariance = case.prior.conditional_covariance(x, sigma)
    if covariance is None:
        return case.divergence(x, sigma).double() * sigma**2 / x[0].numel()
    return covariance.sqrt(tensor(33, x.shape, x.dtype)).double().square().flatten(1).mean(1)


CHECKS = (
    shapes,
    dtypes,
    deterministic,
    no_global_randomness,
    input_unchanged,
    batch_equals_single,
    per_sample_sigma,
    score_is_tweedies,
    limit_small_sigma,
    limit_large_sigma,
    differentiable,
    value_range,
    decode_encode,
    calibration,
    settings_described,
    settings_import_is_light,
)
"""The checks of a prior, in the order in which they are run."""
