"""Pictures as data: each address is decoded by Pillow and compared with the tensors."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

import daps_kit
from daps_kit.report import planes
from daps_kit.report.planes import image_data, level_data, thumb
from daps_kit.report.reading import result_in


def picture(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def pixels(address: str) -> np.ndarray:
    return np.asarray(picture(address).convert("RGB")).astype(float)


def levels(x: torch.Tensor) -> np.ndarray:
    """Return an image [C, H, W] in [-1, 1] on [0, 255], not rounded."""
    return (x.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5


@pytest.fixture
def result(toy):
    return result_in(daps_kit.run(toy(), ["trajectory=3"], quiet=True).path)


def test_images_are_the_tensors_to_half_a_level(result) -> None:
    data = image_data(result, "birch")
    assert data["size"] == data["shown"] == [16, 16]
    assert data["channels"] == 3
    samples = result.samples("birch")
    for address, x in [
        (data["truth"], result.truth("birch")),
        (data["mean"], result.posterior("birch")["mean"]),
        *zip(data["samples"], samples, strict=True),
    ]:
        assert np.abs(pixels(address) - levels(x)).max() <= 0.5001


def test_the_measurement_is_the_picture_in_the_folder(result) -> None:
    with Image.open(result.folder / "measurement/birch.png") as there:
        assert np.array_equal(
            pixels(image_data(result, "birch")["measurement"]), np.asarray(there.convert("RGB"))
        )


def test_maps_are_the_values_on_their_scale(result) -> None:
    maps, posterior = image_data(result, "birch")["maps"], result.posterior("birch")
    error = posterior["mean"] - result.truth("birch")
    wanted = {"std": posterior["std"], "width": posterior["q95"] - posterior["q05"], "error": error}
    for key, x in wanted.items():
        values = x.square().mean(0).sqrt().numpy()
        top = maps[key]["top"]
        assert top == pytest.approx(np.quantile(values, 0.995), rel=1e-3)
        shown = pixels(maps[key]["picture"])[..., 0] / 255 * top
        assert np.abs(shown - values.clip(0, top)).max() <= top / 255 * 0.51


def test_a_single_sample_has_an_error_and_no_spread(toy) -> None:
    result = result_in(daps_kit.run(toy(), ["runs=1"], quiet=True).path)
    data = image_data(result, "ash")
    assert data["mean"] is None
    assert set(data["maps"]) == {"error"}
    assert level_data(result, "ash") is None


def test_a_large_image_is_shown_reduced_by_means(result, monkeypatch) -> None:
    monkeypatch.setattr(planes, "LARGEST", 8)
    data = image_data(result, "ash")
    assert data["size"] == [16, 16]
    assert data["shown"] == [8, 8]
    assert np.abs(pixels(data["truth"]) - levels(avg_pool2d(result.truth("ash"), 2))).max() <= 0.5001
    assert picture(data["measurement"]).size == (8, 8)


def test_levels_are_there_for_each_run_and_for_their_mean(result, monkeypatch) -> None:
    lossy, encode = level_data(result, "ash"), planes._address
    assert lossy["sigma"] == pytest.approx(result.trajectory("ash", 0)["sigma"].tolist())
    monkeypatch.setattr(planes, "_address", lambda picture, lossless: encode(picture, lossless=True))
    data = level_data(result, "ash")["pictures"]
    t = [result.trajectory("ash", run) for run in (0, 1)]
    scale = (1 + t[0]["sigma"].float().square()).sqrt()[:, None, None, None]
    for key in ("x_t", "x0hat", "x0y"):
        first, second = ((way[key] / scale if key == "x_t" else way[key]) for way in t)
        for run, wanted in {"0": first, "1": second, "mean": (first + second) / 2}.items():
            for level in range(3):
                assert np.abs(pixels(data[run][key][level]) - levels(wanted[level])).max() <= 0.5001
                assert picture(lossy["pictures"][run][key][level]).size == (16, 16)
    assert set(data) == {"mean", "0", "1"}


def test_thumbs_are_small(result, monkeypatch) -> None:
    monkeypatch.setattr(planes, "THUMB", 6)
    assert picture(thumb(result, "ash")).size == (6, 6)
