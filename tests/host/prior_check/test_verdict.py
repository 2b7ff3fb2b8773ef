"""Verdicts on priors: right ones pass, and every way to be wrong is found and named."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daps_kit import build, run
from daps_kit.contracts import Covariance, Prior
from daps_kit.errors import UserError
from daps_kit.images import load_image
from daps_kit.prior_check.known_images import known_images
from daps_kit.prior_check.power_law import PowerLaw
from daps_kit.prior_check.verdict import QUICK, Verdict, examine, require_sound
from daps_kit.registry import default_registry
from daps_kit.settings import PriorSettings
from tests.host.prior_check.smooth import smooth

CPU = torch.device("cpu")
Denoise = Callable[[Tensor, float], Tensor]


class Memory(Prior):
    """The exact denoiser of a distribution that is known: one of a few images, each as likely."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.shape = images, (images.shape[1], images.shape[2], images.shape[3])

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        distance = (x[:, None] - self.images).square().flatten(2).sum(2)
        weights = torch.softmax(-distance / (2 * torch.as_tensor(sigma) ** 2), dim=1)
        return torch.einsum("bk,kchw->bchw", weights, self.images)


class Called(Prior):
    """A prior that is called in another way than the contract says."""

    def __init__(self, prior: Prior, call: Callable[[Denoise, Tensor, float], Tensor]) -> None:
        self.prior, self.call, self.shape = prior, call, prior.shape

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if isinstance(sigma, Tensor) and sigma.ndim:
            rows = zip(torch.split(x, 1), sigma, strict=True)
            return torch.cat([self.denoise(row, float(level)) for row, level in rows])
        return self.call(self.prior.denoise, x, float(sigma))


def problem(verdict: Verdict) -> str:
    assert len(verdict.problems) == 1, verdict
    return verdict.problems[0]


def test_a_right_prior_passes(images: Tensor) -> None:
    verdict = examine(Memory(images), images)
    assert (verdict.problems, verdict.doubts) == ((), ())
    for level in verdict.levels:
        assert level.mse < level.linear < 1.001 * level.trivial
    (half,) = [level for level in verdict.levels if level.sigma == 0.5]
    assert half.mse < 1e-6  # twelve images are told apart with ease
    assert half.trivial == pytest.approx(
        min(0.25, float(images.var((0, 2, 3), correction=0).mean())), rel=1e-4
    )


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 5, 7)])
def test_exact_priors_pass_on_their_own_draws(name: str, shape: tuple[int, int, int]) -> None:
    prior = build("prior", {"use": name, "std": 0.05}, shape=shape)
    x0, label = known_images(prior, (), CPU)
    assert label == "its own draws"
    verdict = examine(prior, x0)
    assert verdict.problems == ()
    assert require_sound(prior, torch.ones(shape), CPU) == ()  # whatever is to be restored: it has no weights


MISTAKES: dict[str, Callable[[Denoise, Tensor, float], Tensor]] = {
    "images in [0, 1], but": lambda d, x, s: (d(2 * x - 1, 2 * s) + 1) / 2,
    "images in [0, 255], but": lambda d, x, s: 127.5 * (d(x / 127.5 - 1, s / 127.5) + 1),
    "order blue, green, red": lambda d, x, s: d(x.flip(1), s).flip(1),
    "returns the noise n": lambda d, x, s: (x - d(x, s)) / s,
    "returns sigma n": lambda d, x, s: x - d(x, s),
    "returns the score": lambda d, x, s: (d(x, s) - x) / s**2,
    "takes x_t / sqrt(1 + sigma^2)": lambda d, x, s: d(x * math.sqrt(1 + s**2), s),
    "takes sigma^2": lambda d, x, s: d(x, math.sqrt(s)),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_recognised_and_named(images: Tensor, words: str) -> None:
    prior = Called(Memory(images), MISTAKES[words])
    assert words in problem(examine(prior, images))
    if words.startswith("takes"):  # between sigma 0.2 and 2 these images are told apart even so
        return
    with pytest.raises(UserError, match="prior: ") as caught:
        require_sound(prior, images[0], CPU)
    assert words in str(caught.value)


@pytest.mark.parametrize("words", ["images in [0, 1], but", "takes sigma^2", "returns the noise n"])
def test_mistakes_with_real_weights_and_a_real_image_are_recognised(words: str) -> None:
    # For them a [0, 1] prior is hardly worse than a linear filter: only the other call shows the mistake.
    prior = Called(build("prior", {"use": "embedded"}), MISTAKES[words])
    x0, _ = known_images(prior, (), CPU)
    assert words in problem(examine(prior, x0))


def linear_prior(images: Tensor) -> Prior:
    """Return the Gaussian of these images' power law as a prior: nearly as good as a linear denoiser can be."""

    class Linear(Prior):
        shape = (images.shape[1], images.shape[2], images.shape[3])

        def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return PowerLaw(images).denoise(x, float(sigma))

    return Linear()


def test_random_weights_are_found(images: Tensor) -> None:
    weights = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0))

    def network(d: Denoise, x: Tensor, s: float) -> Tensor:
        # The preconditioning of EDM around a network that was never trained.
        c_skip, c_out, c_in = (
            0.25 / (s**2 + 0.25),
            s * 0.5 / math.sqrt(s**2 + 0.25),
            1 / math.sqrt(s**2 + 0.25),
        )
        return c_skip * x + c_out * torch.conv2d(c_in * x, weights, padding=1)

    for wrong in (network, lambda d, x, s: x, lambda d, x, s: torch.zeros_like(x)):
        assert "weights are random" in problem(examine(Called(Memory(images), wrong), images))


def test_not_a_number_and_a_wrong_shape_are_found(images: Tensor) -> None:
    broken = Called(Memory(images), lambda d, x, s: d(x, s) / (0.0 if s == 5.0 else 1.0))
    assert problem(examine(broken, images)) == "it returns NaN or infinity at sigma 5"
    halved = Called(Memory(images), lambda d, x, s: d(x, s)[..., ::2])
    with pytest.raises(
        UserError, match=r"returns the shape \[12, 3, 16, 8\] for noisy images of shape \[12, 3, 16, 16\]"
    ):
        examine(halved, images)


def test_wrong_limits_are_found(images: Tensor) -> None:
    def moved(by: float) -> Prior:
        return Called(Memory(images), lambda d, x, s: d(x, s) + (by if s < 0.03 else 0.0))

    words = "at the small sigma 0.01 it does not leave these images as they are (it changes them by 0.05)"
    assert problem(examine(moved(0.05), images)) == words
    verdict = examine(moved(0.02), images)
    assert verdict.problems == ()
    assert verdict.doubts == (words.replace("0.05", "0.02"),)
    assert examine(moved(0.01), images).doubts == ()
    far = Called(Memory(images), lambda d, x, s: x if s > 50 else d(x, s))
    assert "at the large sigma 80 it does not return its mean image" in problem(examine(far, images))


def test_levels_beyond_the_range_of_a_prior_are_left_out(images: Tensor) -> None:
    prior = Called(Memory(images), lambda d, x, s: d(x, s) if 0.1 <= s <= 3 else torch.full_like(x, math.nan))
    prior.sigma_range = (0.1, 3.0)
    verdict = examine(prior, images)
    assert verdict.problems == ()
    assert [level.sigma for level in verdict.levels] == [0.1, 0.2, 0.5, 1.0, 2.0]


def test_images_unlike_the_training_images_are_a_doubt_or_a_problem(images: Tensor) -> None:
    other = smooth(12, seed=9, alpha=0.5)
    close = linear_prior(images + 0.1 * other)
    verdict = examine(close, images)
    assert verdict.problems == ()
    assert "unlike those it was trained on" in verdict.doubts[0]
    assert "denoises these images badly" in problem(examine(linear_prior(images + 0.35 * other), images))


class Table:
    """A calibration."""

    def __init__(self, sigma: list[float], mse: list[float]) -> None:
        self.sigma, self.mse = torch.tensor(sigma), torch.tensor(mse)

    def covariance(self, sigma: float, height: int, width: int) -> Covariance:
        raise AssertionError("the check asks for no covariance")


def test_the_calibration_is_compared(images: Tensor) -> None:
    prior = linear_prior(images)
    measured = examine(prior, images).levels
    prior.calibration = Table([level.sigma for level in measured], [level.mse for level in measured])
    verdict = examine(prior, images)
    assert [level.stored for level in verdict.levels] == pytest.approx(
        [level.mse for level in measured], rel=1e-5
    )
    assert (verdict.problems, verdict.doubts) == ((), ())
    prior.calibration = Table([0.1, 4.0], [measured[1].mse / 3, measured[1].mse * 40**1.5 / 3])
    verdict = examine(prior, images)
    assert verdict.levels[0].stored is verdict.levels[-1].stored is None
    # Straight in the logarithms: between 0.1 and 4 this table is a power of sigma.
    assert verdict.levels[4].stored == pytest.approx(measured[1].mse / 3 * 10**1.5, rel=1e-5)
    prior.calibration = Table([level.sigma for level in measured], [level.mse / 2.5 for level in measured])
    verdict = examine(prior, images)
    assert verdict.problems == ()
    assert "1.0 times the error of a linear filter and 2.5 times that of its calibration" in verdict.doubts[0]


def test_before_a_run_a_few_calls_are_enough_and_one_where_they_are_slow(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    def counted(d: Denoise, x: Tensor, s: float) -> Tensor:
        calls.append(s)
        return d(x, s)

    prior = Called(Memory(images), counted)
    assert require_sound(prior, images[0], CPU) == ()
    assert set(QUICK) <= set(calls)
    assert len(calls) == 20
    calls.clear()
    monkeypatch.setattr("daps_kit.prior_check.verdict.SLOW", 0.0)
    require_sound(prior, images[0], CPU)
    assert calls == [0.5]


def test_a_run_with_a_wrong_prior_stops_before_it_samples(toy: Callable[..., Path], tmp_path: Path) -> None:
    class Deaf(PriorSettings):
        """Returns the noise."""

        name = "deaf"

        def build(self, *, shape: object, device: torch.device) -> Prior:
            files = sorted((tmp_path / "photos").glob("*.png"))
            photos = torch.stack([load_image(file) for file in files])
            return Called(Memory(photos), lambda d, x, s: x - d(x, s))

    with default_registry().extended(Deaf):
        path = toy(prior={"use": "deaf"})
        with pytest.raises(
            UserError, match=r"^prior: it returns sigma n, not the image; .*`check_prior: false`"
        ):
            run(path, quiet=True)
        assert not list((tmp_path / "out").rglob("sample-*.png"))
        # The way out that the message names works in the same folder.
        result = run(path, ["check_prior=false"], quiet=True)
        assert result.samples.shape == (3, 2, 3, 16, 16)


def test_embedded_weights_that_are_shuffled_or_scaled_are_wrong() -> None:
    prior = build("prior", {"use": "embedded"})
    x0, _ = known_images(prior, (), CPU)
    network: torch.nn.Module = prior.model  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() > 1:
            tensor.copy_(
                tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)
            )
    verdict = examine(prior, x0)
    assert len(verdict.problems) == 1, verdict
    with pytest.raises(UserError, match="prior: it"):
        require_sound(prior, None, CPU)
