"""A prior by windows, against exact algebra on a stationary Gaussian field larger than a window."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from daps_kit import build
from daps_kit.calibration import calibrate
from daps_kit.contracts import Prior, RandomStreams
from daps_kit.errors import ComponentError, UserError
from daps_kit.registry import default_registry
from daps_priors.exact.gaussian import GaussianPrior
from daps_priors.published.latent_settings import LDM
from daps_priors.tiled.padded import PaddedPrior
from daps_priors.tiled.prior import TiledLatentPrior, TiledPrior, ramp, starts
from tests.priors.published.tiny_ldm import HEADS, lightning, weights

CPU = torch.device("cpu")
WINDOW, SIZE = 16, (40, 56)
STD, LENGTH = 0.5, 2.0
SIGMA = 0.4


def field(height: int, width: int) -> torch.Tensor:
    """Covariance of a stationary field with an exponential kernel, [d, d]."""
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    return STD**2 * torch.exp(-torch.cdist(place, place) / LENGTH)


@pytest.fixture(scope="module")
def inner() -> GaussianPrior:
    """The field in a window, with its errors measured as those of a network are."""
    covariance = field(WINDOW, WINDOW)
    prior = GaussianPrior(torch.zeros(1, WINDOW, WINDOW), covariance=covariance.float())
    prior.calibration = calibrate(prior.denoise, draws(covariance, 64, WINDOW, WINDOW), draws=1)
    return prior


def draws(covariance: torch.Tensor, count: int, height: int, width: int) -> torch.Tensor:
    root = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(len(covariance)))
    z = torch.randn(count, len(covariance), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return (z @ root.T).reshape(count, 1, height, width).float()


@pytest.fixture(scope="module")
def large() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws x0 of the large field, x = x0 + sigma n, E[x0 | x] and the standard deviation of each pixel given x."""
    covariance = field(*SIZE)
    x0 = draws(covariance, 24, *SIZE)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    gain = torch.linalg.solve(covariance + SIGMA**2 * torch.eye(len(covariance)), covariance)
    mean = ((x0 + SIGMA * noise).flatten(1).double() @ gain).reshape(x0.shape).float()
    left = (covariance - covariance @ gain).diagonal().sqrt().reshape(SIZE).float()
    return x0, x0 + SIGMA * noise, mean, left


def test_it_is_the_posterior_mean_of_the_large_field(inner, large):
    x0, x, mean, left = large
    denoised = TiledPrior(inner, (WINDOW, WINDOW), 8).denoise(x, SIGMA)
    missed = (denoised - mean).square().mean().sqrt()
    assert float(missed) < 0.1 * float(left.mean())
    error = (denoised - x0).square().mean().sqrt()
    assert float(error) == pytest.approx(float(left.square().mean().sqrt()), rel=0.01)
    touching = TiledPrior(inner, (WINDOW, WINDOW), 0).denoise(x, SIGMA)
    assert float((touching - mean).square().mean().sqrt()) > 2 * float(missed)


def test_no_seam_shows(inner, large):
    """Steps across the borders of windows are as large as elsewhere, |z| < 2; with windows that touch they are not."""
    x = large[1]

    def seam(overlap: int) -> float:
        prior = TiledPrior(inner, (WINDOW, WINDOW), overlap)
        _, across = prior._places(SIZE, SIGMA)
        steps = prior.denoise(x, SIGMA).diff(dim=3).square().mean((1, 2))
        borders = sorted(
            {p - 1 for p in across if p} | {p + WINDOW - 1 for p in across if p + WINDOW < SIZE[1]}
        )
        inside = [place for place in range(SIZE[1] - 1) if place not in borders]
        gap = steps[:, borders].mean(1) - steps[:, inside].mean(1)
        return float(gap.mean() / gap.std() * len(gap) ** 0.5)

    assert abs(seam(8)) < 2
    assert seam(0) > 8


def test_the_grid_moves_with_the_noise_level_and_with_nothing_else(inner, large):
    x = large[1][:2]
    prior = TiledPrior(inner, (WINDOW, WINDOW), 4)
    places = {tuple(map(tuple, prior._places(SIZE, sigma))) for sigma in np.geomspace(0.01, 10, 20)}
    assert len(places) > 15
    assert torch.equal(prior.denoise(x, 0.3), prior.denoise(x, torch.tensor([0.3, 0.3])))
    alone = torch.cat([prior.denoise(x[:1], 0.3), prior.denoise(x[1:], 0.7)])
    torch.testing.assert_close(prior.denoise(x, torch.tensor([0.3, 0.7])), alone)
    few = TiledPrior(inner, (WINDOW, WINDOW), 4, batch_size=1)
    torch.testing.assert_close(few.denoise(x, 0.3), prior.denoise(x, 0.3))


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(16, 16, 4), (17, 16, 4), (57, 16, 8), (100, 16, 0)]
)
def test_windows_cover_the_picture_from_end_to_end(length, window, overlap):
    for shift in range(window - overlap):
        places = starts(length, window, window - overlap, shift)
        assert places[0] == 0
        assert places[-1] == length - window
        assert all(b - a <= window - overlap for a, b in itertools.pairwise(places))


def test_weights_of_neighbours_add_up():
    weight = ramp(16, 6)
    torch.testing.assert_close(weight[-6:] + weight[:6], torch.ones(6))
    assert torch.equal(weight[6:10], torch.ones(4))
    assert torch.equal(ramp(16, 0), torch.ones(16))


def test_the_covariance_is_that_of_the_large_field(inner, large):
    *_, left = large
    prior = TiledPrior(inner, (WINDOW, WINDOW), 8)
    covariance = prior.sized((1, *SIZE)).denoising_covariance(SIGMA)
    assert float(covariance.power.mean().sqrt()) == pytest.approx(
        float(left.square().mean().sqrt()), rel=0.06
    )
    exact = field(*SIZE)
    exact = exact - exact @ torch.linalg.solve(exact + SIGMA**2 * torch.eye(len(exact)), exact)
    for k in ((0, 3), (5, 5), (20, 8)):
        basis = [torch.cos(torch.pi * n * (torch.arange(s) + 0.5) / s) for n, s in zip(k, SIZE, strict=True)]
        v = (basis[0][:, None] * basis[1]).flatten().double()
        wanted = float(v @ exact @ v / (v @ v))
        assert float(covariance.power[0][k]) == pytest.approx(wanted, rel=0.2)


def test_a_sampler_draws_the_posterior_of_the_large_field(inner, large):
    """Denoising as an inverse problem: mean and standard deviation of draws, against the closed form."""
    _, x, mean, left = large
    noise = {"use": "gaussian", "sigma": SIGMA}
    operator = build("operator", {"use": "identity", "noise": noise}, shape=(1, *SIZE))
    sampler = build("sampler", {"use": "daps", "final_denoise": False})
    y = x[:1].expand(32, -1, -1, -1)
    prior = TiledPrior(inner, (WINDOW, WINDOW), 8, batch_size=64)
    *_, last = sampler.sample(prior, operator, y, RandomStreams(range(32)))
    spread = last.x0y.std(0).square().mean().sqrt()
    assert float(spread) == pytest.approx(float(left.square().mean().sqrt()), rel=0.05)
    gap = (last.x0y.mean(0) - mean[0]).square().mean().sqrt()
    assert float(gap) < 0.3 * float(spread)


class Separable(Prior):
    """A stationary field with the covariance STD^2 exp(-(|dy| + |dx|) / LENGTH): exact at any size, an axis at a time."""

    def __init__(self, side: int) -> None:
        place = torch.arange(side).double()
        values, self.basis = torch.linalg.eigh(STD * torch.exp(-(place[:, None] - place).abs() / LENGTH))
        self.power = values[:, None] * values
        self.shape, self.seen = (1, side, side), []

    def filtered(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        """Apply a diagonal map in the basis of principal components."""
        return (self.basis @ (gain * (self.basis.T @ x.double() @ self.basis)) @ self.basis.T).float()

    def denoise(self, x, sigma):
        self.seen.append(x.shape)
        return self.filtered(x, self.power / (self.power + float(sigma) ** 2))

    def draw(self, count: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(count, *self.shape, generator=generator, dtype=torch.float64)
        return self.filtered(z, self.power.clamp_min(0).sqrt())


@pytest.mark.slow
def test_eight_windows_to_a_side():
    """From 64 to 512: spread within 3 % of the posterior's, no seam, no more at once than a batch, time with pixels."""
    window, whole = Separable(64), Separable(512)
    window.calibration = calibrate(window.denoise, window.draw(32, 1), draws=1)
    window.seen.clear()
    x0 = whole.draw(1, 2)
    y = x0 + SIGMA * torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    mean = whole.filtered(y, whole.power / (whole.power + SIGMA**2))
    due = whole.power * SIGMA**2 / (whole.power + SIGMA**2)  # of the principal components
    noise = {"use": "gaussian", "sigma": SIGMA}
    operator = build("operator", {"use": "identity", "noise": noise}, shape=(1, 512, 512))
    sampler = build("sampler", {"use": "daps"})
    prior = TiledPrior(window, (64, 64), 16, batch_size=32)
    count = 2
    *_, last = sampler.sample(prior, operator, y.expand(count, -1, -1, -1), RandomStreams(range(count)))
    error = (last.x0y - mean).square().mean().sqrt()
    assert float(error) == pytest.approx(float(due.mean().sqrt()), rel=0.03)
    assert max(shape[0] for shape in window.seen) <= 32
    assert {shape[1:] for shape in window.seen} == {(1, 64, 64)}

    down, across = prior._places((512, 512), last.sigma)
    for axis, places in ((2, down), (3, across)):
        steps = last.x0y.diff(dim=axis).square().mean((0, 1, 5 - axis))
        borders = sorted({p - 1 for p in places if p} | {p + 63 for p in places if p + 64 < 512})
        inside = [place for place in range(511) if place not in borders]
        gap = steps[borders].mean() - steps[inside].mean()
        assert abs(float(gap / (steps[inside].std() * len(borders) ** -0.5))) < 2

    def windows(side: int) -> int:
        window.seen.clear()
        prior.denoise(torch.zeros(1, 1, side, side), 0.3)
        return sum(shape[0] for shape in window.seen)

    assert windows(512) / windows(256) == pytest.approx(4, rel=0.35)
    assert windows(1024) / windows(512) == pytest.approx(4, rel=0.2)


class Folded(Prior):
    """A latent prior whose first stage is known: four neighbours become four channels, and back."""

    def __init__(self, inner: Prior) -> None:
        self.inner, self.shape, self.sigma_range = inner, inner.shape, inner.sigma_range

    def state_shape(self, image_shape):
        channels, height, width = image_shape
        return 4 * channels, height // 2, width // 2

    def denoise(self, x, sigma):
        return self.encode(self.inner.denoise(self.decode(x), sigma))

    def encode(self, x):
        return pixel_unshuffle(x, 2)

    def decode(self, z):
        return pixel_shuffle(z, 2)


def test_tiles_of_latents(inner, large):
    """Where the first stage only folds pixels, tiles of latents give what tiles of pixels do."""
    x = large[1][:2]
    latent = TiledLatentPrior(Folded(inner), 8, batch_size=3)
    assert latent.latent
    assert latent.state_shape((1, *SIZE)) == (4, SIZE[0] // 2, SIZE[1] // 2)
    torch.testing.assert_close(latent.decode(latent.encode(x)), x)
    places = latent._places((SIZE[0] // 2, SIZE[1] // 2), SIGMA)
    pixels = TiledPrior(inner, (WINDOW, WINDOW), 8)
    pixels._places = lambda size, sigma: tuple([2 * p for p in part] for part in places)
    found = latent.decode(latent.denoise(latent.encode(x), SIGMA))
    # Weights are those of latents, not of pixels.
    assert float((found - pixels.denoise(x, SIGMA)).square().mean().sqrt()) < 0.01
    z = latent.encode(x).requires_grad_()
    (gradient,) = torch.autograd.grad(latent.decode(z).square().sum() / 2, z)
    torch.testing.assert_close(gradient, z.detach())
    with pytest.raises(UserError, match=r"are 41 x 56; allowed: sides divisible by 2"):
        latent.require_fit((1, 41, 56))


def test_tiles_of_the_latents_of_a_small_network(tmp_path):
    """With room for one window it is the model itself; on a larger picture the tiles are where the model sees them."""
    path = lightning(weights(), tmp_path / "tiny.ckpt")
    of = LDM(model="custom", checkpoint=path, architecture=HEADS.model_copy(update={"image_size": 16}))
    settings = default_registry().find("prior", "tiled").settings(of=of, overlap=4)
    model = of.build(shape=None, device=CPU)
    prior = settings.build(shape=(3, 24, 32), device=CPU)
    z = torch.randn(1, *prior.state_shape((3, 24, 32)), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        one = z[..., :8, :8]
        torch.testing.assert_close(prior.denoise(one, 0.5), model.denoise(one, 0.5))
        torch.testing.assert_close(prior.decode(one), model.decode(one))
        image = prior.decode(z)
        assert image.shape == (1, 3, 24, 32)
        # The corner that only the first window gives.
        torch.testing.assert_close(image[..., :8, :12], model.decode(one)[..., :8, :12])
        assert prior.encode(image).shape == z.shape


def section(**changes):
    settings = default_registry().find("prior", "tiled").settings
    from daps_priors import Embedded, Gaussian

    kinds = {"embedded": Embedded(), "gaussian": Gaussian()}
    return settings(**{"of": kinds["embedded"]} | {k: kinds.get(v, v) for k, v in changes.items()})


def test_settings():
    small = section().build(shape=(3, 60, 100), device=CPU)
    assert isinstance(small, PaddedPrior)
    assert (small.shape, small.state_shape(small.shape)) == ((3, 60, 100), (3, 64, 100))
    assert small.conditional_covariance(torch.zeros(1, 3, 64, 100), 0.3).scale.shape[-2:] == (64, 100)
    prior = section().build(shape=(3, 100, 64), device=CPU)
    assert (prior.window, prior.overlap, prior.channels, prior.shape) == ((64, 64), 16, 3, None)
    assert prior.conditional_covariance(torch.zeros(1, 3, 70, 64), 0.3) is not None
    any_size = section(of="gaussian", window=8, overlap=2).build(shape=None, device=CPU)
    assert (any_size.window, any_size.channels) == ((8, 8), None)


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        ({}, (1, 80, 100), r"pictures of 3 channel\(s\), but those of the run have 1"),
        ({"window": 32}, None, "window 32 does not fit the prior, which knows images of 64 x 64"),
        ({"overlap": 64}, None, "an overlap of 64 leaves nothing"),
        ({"of": "gaussian"}, None, "window is needed"),
    ],
)
def test_what_cannot_be(changes, shape, words):
    with pytest.raises(UserError, match=words):
        section(**changes).build(shape=shape, device=CPU)
    assert issubclass(ComponentError, UserError)
