r"""Conformance checks of noise models. Each is a function of a `NoiseCase`.

For clean measurements a, draws y of them and the misfit m with dispersion d:

    likelihood    log p(y | a) - log p(y | b)          =  -(m(a, y) - m(b, y)) / 2d
    gradient      m(b, y) - m(a, y)                    =  integral of m' from a to b
    draws         E[p(y | a + h) / p(y | a)]           =  1        for y drawn from p(y | a), whatever h
    cells         sum of P(e_i < y <= e_{i+1} | a)     =  1        and shares of draws are these
    sites         mean and variance of N(a; m, c) p(y | a) by a fine grid are those of the Gaussian site

None asks for derivatives of the density, which may have kinks. Statistics are tested by
z-tests with fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from daps_kit.noise import Noise
from daps_kit.noise.model import simulations

from .base import (
    Case,
    NotApplicable,
    expect,
    expect_no_global_randomness,
    expect_unchanged,
    expect_z,
    near,
    rows,
    settings_described,
    settings_import_is_light,
    streams,
    tensor,
)

__all__ = ["CHECKS", "NoiseCase"]

F64 = torch.float64
FORM = (1, 8, 8)
DRAWS = 64


class NoiseCase(Case):
    """A noise model under test, on clean measurements of images, in [-0.7, 0.7].

    Args:
        what: a section, settings, or a noise model.
    """

    def __init__(self, what: Any) -> None:
        super().__init__("noise", what)

    @cached_property
    def noise(self) -> Noise:
        """The noise model."""
        noise: Noise = self.what if self.settings is None else self.settings.build()
        return noise

    def clean(self, count: int = 3, dtype: torch.dtype = F64) -> Tensor:
        """Return clean measurements, [count, 1, 8, 8], all the same."""
        return (0.7 * tensor(50, FORM, F64).tanh()).to(dtype).expand(count, *FORM).clone()

    def drawn(self, count: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
        """Return clean measurements and draws of them, in double precision."""
        clean = self.clean(count)
        return clean, self.noise.sample(clean, streams(*range(seed, seed + count)))

    def everything(self, clean: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the results of every method, by its name."""
        noise = self.noise
        return {
            "log_density": noise.log_density(clean, y),
            "std": noise.std(clean),
            "misfit": noise.misfit(clean, y),
            "misfit_grad": noise.misfit_grad(clean, y),
            "curvature": torch.as_tensor(noise.curvature(clean, y)).to(clean) + torch.zeros_like(clean),
            "expected_misfit": noise.expected_misfit(clean),
            "log_probability": noise.log_probability(clean, y - 0.1, y + 0.1),
        }


def shapes_and_types(case: NoiseCase) -> None:
    """Results have shape, dtype and device of the clean measurement, and float32 agrees with float64."""
    found = []
    for dtype in (torch.float32, F64):
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            clean = case.clean(3, dtype).to(device)
            y = case.drawn()[1].to(clean)
            draw = case.noise.sample(clean.cpu(), streams(1, 2, 3))
            results = {**case.everything(clean, y), "sample": draw.to(device)}
            for name, result in results.items():
                fits = result.shape == clean.shape and result.dtype == dtype and result.device == clean.device
                got = f"{tuple(result.shape)}, {result.dtype} on {result.device.type}"
                expect(fits, f"{name} returned {got}, not {tuple(clean.shape)}, {dtype} on {device}")
                expect(torch.isfinite(result).all(), f"{name} returned numbers that are not finite")
        found.append(case.everything(case.clean(3, dtype), case.drawn()[1].to(dtype)))
    for name in ("log_density", "std"):
        near(found[0][name], found[1][name], 1e-3, f"{name} in float32 and in float64")
    level = case.noise.level(case.drawn()[1])
    expect(
        isinstance(level, float) and 0 < level < float("inf"),
        f"level must be a positive number, got {level!r}",
    )


def independent_in_batch(case: NoiseCase) -> None:
    """A sample does not depend on the rest of the batch, and draws from its own stream."""
    clean, y = case.drawn()
    alone = rows(lambda b: case.noise.sample(clean[b : b + 1], streams(1 + b)), 3)
    near(y, alone, 1e-9, "a draw in a batch and alone")
    expect(not torch.equal(y[0], y[1]), "two streams gave the same draw")
    whole = case.everything(clean, y)
    for name, result in whole.items():
        single = rows(lambda b, name=name: case.everything(clean[b : b + 1], y[b : b + 1])[name], 3)  # type: ignore[misc]
        near(result, single, 1e-9, f"{name} in a batch and alone")


def no_global_randomness(case: NoiseCase) -> None:
    """No method reads or moves global random states."""
    clean, y = case.drawn()
    expect_no_global_randomness(
        lambda: [*case.everything(clean, y).values(), case.noise.sample(clean, streams(1, 2, 3))]
    )


def input_unchanged(case: NoiseCase) -> None:
    """No method changes its arguments."""
    clean, y = case.drawn()
    expect_unchanged(
        lambda: (case.everything(clean, y), case.noise.sample(clean, streams(1, 2, 3))), clean=clean, y=y
    )


def misfit_is_likelihood(case: NoiseCase) -> None:
    """The misfit is -2 dispersion times the log density, up to a constant that does not depend on the clean values."""
    (clean, y), noise = case.drawn(), case.noise
    other = clean + noise.std(clean) * tensor(51, clean.shape, F64)
    by_misfit = (noise.misfit(other, y) - noise.misfit(clean, y)) / (2 * noise.dispersion)
    by_density = noise.log_density(clean, y) - noise.log_density(other, y)
    near(by_misfit, by_density, 1e-6, "differences of misfit / (2 dispersion) and of the log density")


def gradient(case: NoiseCase) -> None:
    """The misfit changes by the integral of its gradient."""
    (clean, y), noise = case.drawn(), case.noise
    change, points = noise.std(clean) * tensor(52, clean.shape, F64), 801  # densities may have kinks
    total = torch.zeros_like(clean)
    for i in range(points):
        weight = (0.5 if i in (0, points - 1) else 1.0) / (points - 1)
        total = total + weight * change * noise.misfit_grad(clean + change * i / (points - 1), y)
    near(
        total,
        noise.misfit(clean + change, y) - noise.misfit(clean, y),
        5e-3,
        "the integral of misfit_grad and misfit",
    )


def draws_have_the_density(case: NoiseCase) -> None:
    """Measurements are drawn from the stated density: its ratio to one beside it has the mean 1 (z-tests)."""
    (clean, y), noise = case.drawn(DRAWS), case.noise
    for share in (-1.0, -0.3, 0.3, 1.0):
        beside = clean + share * noise.std(clean)
        ratio = (noise.log_density(beside, y) - noise.log_density(clean, y)).exp()
        means = ratio.flatten(1).mean(1)
        spread = float(means.std()) / DRAWS**0.5
        expect(spread > 0, "the density does not depend on the clean measurement, or nothing is random")
        expect_z((float(means.mean()) - 1) / spread, f"ratio of densities {share:+.1f} deviations apart")


def expected_misfit(case: NoiseCase) -> None:
    """The mean misfit of draws is the expected one, so that residuals of the true image are about 1 (z-test)."""
    noise, count = case.noise, 16
    clean = case.clean(count).repeat(1, 1, 6, 6)
    misfit = noise.misfit(clean, noise.sample(clean, streams(*range(100, 100 + count))))
    sums = (misfit - noise.expected_misfit(clean)).flatten(1).mean(1)
    # The default expectation is that of a few simulated measurements, the same for each sample.
    spread = float(sums.std()) * (1 / count + 1 / simulations(clean)) ** 0.5
    expect_z(float(sums.mean()) / spread, "mean misfit of draws beside the expected misfit")


def width(case: NoiseCase) -> None:
    """The standard deviation is of the size of what draws deviate by; that of measurements, `level`, too."""
    (clean, y), noise = case.drawn(DRAWS), case.noise
    ratio = float(((y - clean).abs() / noise.std(clean)).median())
    expect(
        0.2 < ratio < 1.2, f"half of the draws are within {ratio:.3g} standard deviations, allowed 0.2 to 1.2"
    )
    share = noise.level(y[:1]) / float(noise.std(clean).square().mean().sqrt())
    expect(0.5 < share < 2, f"the level of a measurement is {share:.3g} times the standard deviation")


def curvature_positive(case: NoiseCase) -> None:
    """The curvature is positive and finite, near the measurement and far from it."""
    (clean, y), noise = case.drawn(), case.noise
    for share in (-8.0, -1.0, 0.0, 2.0, 8.0):
        found = torch.as_tensor(noise.curvature(clean + share * noise.std(clean), y))
        low = float(found.min())
        expect(
            low > 0 and bool(torch.isfinite(found).all()),
            f"the curvature {share:+g} deviations away is {low:.3g}",
        )


def gaussian_as_stated(case: NoiseCase) -> None:
    """Noise that says it is Gaussian has the misfit w (clean - y)^2, and N(clean, dispersion / w)."""
    (clean, y), noise = case.drawn(), case.noise
    if not noise.gaussian:
        raise NotApplicable("the noise does not say that it is Gaussian")
    weight = torch.as_tensor(noise.curvature(clean, y)).to(clean)
    near(noise.misfit(clean, y), weight * (clean - y).square(), 1e-6, "misfit and w (clean - y)^2")
    variance = noise.dispersion / weight + torch.zeros_like(clean)
    near(noise.std(clean).square(), variance, 1e-6, "the variance and dispersion / w")


def cells_sum_to_one(case: NoiseCase) -> None:
    """Probabilities of cells that cover everything sum to 1, and shares of draws in them are these (z-tests)."""
    (clean, y), noise = case.drawn(DRAWS), case.noise
    ends = [-float("inf"), -0.6173, -0.2113, 0.0419, 0.3529, 0.6767, float("inf")]
    total = torch.zeros_like(clean[:1])
    for low, high in pairwise(ends):
        cell = (torch.full_like(clean[:1], low), torch.full_like(clean[:1], high))
        p = noise.log_probability(clean[:1], *cell).exp()
        total = total + p
        inside = ((y > low) & (y <= high)).to(F64)
        spread = float((p * (1 - p)).sum() / DRAWS) ** 0.5
        excess = float((inside.mean(0, keepdim=True) - p).sum())
        expect_z(
            excess / max(spread, 1e-3), f"share of draws from {low:g} to {high:g} beside its probability"
        )
    near(total, torch.ones_like(total), 1e-3, "the sum of the probabilities of all cells")


def sites_match(case: NoiseCase) -> None:
    """The Gaussian site of an element gives the mean and the variance that its likelihood gives."""
    (clean, y), noise = case.drawn(), case.noise
    std = noise.std(clean)
    for spread in (0.5, 2.0):
        m, c = clean + std * tensor(53, clean.shape, F64), (spread * std).square()
        site = noise.likelihood(y, noise.dispersion).matched(m, c, (m + y) / 2, std)
        weight = 1 / c + site.weight
        mean = (m / c - site.gradient(torch.zeros_like(m))) / weight
        grid = m + c.sqrt() * torch.linspace(-8, 8, 401, dtype=F64).reshape(-1, *(1,) * m.ndim)
        log = torch.stack([noise.log_density(a, y) - (a - m).square() / (2 * c) for a in grid])
        p = log.softmax(0)
        true = (p * grid).sum(0)
        variance = (p * (grid - true).square()).sum(0)
        free = variance < 0.98 * c  # where the likelihood widens the law, no Gaussian site does
        off = ((mean - true).abs() / variance.sqrt())[free]
        ratio = (1 / weight / variance)[free]
        expect(
            not len(off) or float(off.quantile(0.99)) < 0.05,
            f"the mean with a site is up to {float(off.max()) if len(off) else 0:.3g} standard deviations off",
        )
        wide = ratio.sub(1).abs()
        expect(
            not len(wide) or float(wide.quantile(0.99)) < 0.1,
            "the variance with a site is more than 10 % off",
        )


CHECKS: tuple[Callable[[Any], None], ...] = (
    shapes_and_types,
    independent_in_batch,
    no_global_randomness,
    input_unchanged,
    misfit_is_likelihood,
    gradient,
    draws_have_the_density,
    expected_misfit,
    width,
    curvature_positive,
    gaussian_as_stated,
    cells_sum_to_one,
    sites_match,
    settings_described,
    settings_import_is_light,
)
"""The checks of a noise model, in the order in which they are run."""
