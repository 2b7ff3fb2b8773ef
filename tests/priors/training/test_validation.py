"""What is measured of a denoiser, against closed forms."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from torch import Tensor

from daps_priors.training.augment import centre
from daps_priors.training.validation import SIGMAS, TRAINED_SIGMAS, grid, pictures, sample, squared_errors
from tests.priors.training.discs import shapes
from tests.priors.training.small import start


class Exact(torch.nn.Module):
    """The denoiser of N(0.3, 0.2^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.3))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 0.3 + (x - 0.3) * 0.04 / (0.04 + sigma**2)


def test_samples_of_an_exact_denoiser_have_the_moments_of_its_prior() -> None:
    drawn = sample(Exact(), (64, 3, 16, 16), steps=40)
    assert float(drawn.mean()) == pytest.approx(0.3, abs=0.005)
    assert float(drawn.std()) == pytest.approx(0.2, rel=0.02)
    assert torch.equal(drawn, sample(Exact(), (64, 3, 16, 16), steps=40))
    assert not torch.equal(drawn, sample(Exact(), (64, 3, 16, 16), steps=40, seed=1))


def test_errors_are_measured_of_both_sets_and_of_the_linear_denoiser() -> None:
    model, images = start().ema, centre(torch.from_numpy(shapes()), 16)
    found = squared_errors(model, images[:24], images[24:48])
    assert found["mse"].keys() == found["linear_mse"].keys() == set(map(str, SIGMAS))
    assert found["trained_mse"].keys() == set(map(str, TRAINED_SIGMAS))
    assert found["mse"] == pytest.approx(found["linear_mse"], rel=1e-4)  # where training starts
    for sigma in SIGMAS:
        expected = float(model.gauss.rms_error(torch.tensor([sigma]))[0]) ** 2
        assert found["linear_mse"][str(sigma)] == pytest.approx(expected, rel=0.25)


def test_a_grid_shows_its_images_row_by_row() -> None:
    values = torch.tensor([[-1.0, 0.0, 1.0], [1.0, -1.0, 2.0]])
    picture = grid(values[:, :, None, None, None].expand(2, 3, 1, 4, 4))
    assert picture.size == (12, 8)
    assert [picture.getpixel((x, y)) for y in (1, 6) for x in (1, 5, 9)] == [0, 128, 255, 255, 0, 255]
    assert grid(torch.zeros(1, 2, 5, 4, 4)).mode == "RGB"


def test_pictures_are_a_png_of_eight_columns() -> None:
    images = centre(torch.from_numpy(shapes(24)), 16)
    with Image.open(io.BytesIO(pictures(start().ema, images))) as picture:
        assert picture.size == (8 * 16, 8 * 16)
        assert picture.getpixel((5, 5)) == tuple(shapes(24)[0, 5, 5])
