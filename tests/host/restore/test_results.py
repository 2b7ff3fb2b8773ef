"""Restored pictures: what is written is what was sampled, in the form of the photograph."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit.errors import UserError
from daps_kit.reading import deep_png
from daps_kit.recipe import load_recipe
from daps_kit.restore.picture import read
from daps_kit.restore.recipe import Wishes, draft
from daps_kit.restore.results import advice, begun, found, write
from daps_kit.runs.runner import RunResult, run
from tests.host.restore.conftest import noisy

pytestmark = pytest.mark.usefixtures("work")

OUT = Path("out")


def opened(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def restored(budget: str | int = 2, output: Path = OUT, **wished: Any) -> tuple[RunResult, np.ndarray]:
    """Return a run and the picture that was written of it."""
    wishes = Wishes(prior="{use: gaussian, std: 0.4}", budget=budget, **wished)
    written = draft([Path("photo.png")], wishes, output / "photo.yaml", output)
    with begun(written, output):
        (recipe,) = load_recipe(written.path)
        result = run(recipe, quiet=True)
    path = write(read(Path("photo.png")), result, wishes, output, "photo")
    assert path == output / "photo.png"
    return result, opened(path)


def test_mean_samples_uncertainty_and_before_after():
    result, mean = restored(samples=3)
    samples = result.samples[0].numpy()
    levels = np.rint((result[0].mean.numpy().transpose(1, 2, 0) + 1) * 127.5).clip(0, 255)
    assert np.abs(mean - levels).max() <= 1
    assert np.mean(mean != levels) < 0.01
    for number in range(3):
        one = opened(OUT / f"photo/sample-{number + 1}.png").astype(float)
        np.testing.assert_allclose(
            one / 127.5 - 1, samples[number].transpose(1, 2, 0).clip(-1, 1), atol=1.01 / 255
        )
    assert opened(OUT / "photo/uncertainty.png").ndim == 3
    both = opened(OUT / "photo/before-after.png")
    assert np.array_equal(both[:, :32], opened("photo.png"))
    assert np.array_equal(both[:, -32:], mean)


def test_what_was_not_known_is_said():
    result, _ = restored(samples=3, denoise="auto")
    values = result[0].parameters["noise.sigma"]
    picture = read(Path("photo.png"))
    low, high = np.quantile(values.numpy(), [0.05, 0.95])
    assert found(picture, result) == (
        f"photo.png: the noise is {float(values.mean()):.3g} ({low:.3g} to {high:.3g})"
    )
    known, _ = restored(denoise=0.1, output=Path("other"))
    assert found(picture, known) == ""


@pytest.mark.parametrize(
    ("cause", "wishes", "channels", "hint"),
    [
        ("overstated", {}, 3, "with --denoise 0.12 less detail may be lost"),
        ("understated", {}, 3, "with --denoise 0.12 less noise may be left"),
        ("understated", {}, 9, "with --denoise 0.069 less noise may be left"),
        ("mask", {}, 3, ""),
        ("overstated", {"denoise": 0.2}, 3, ""),
        ("overstated", {"counts": 100.0}, 3, ""),
    ],
)
def test_what_to_try_where_the_estimated_noise_is_another(cause, wishes, channels, hint):
    noise = {"cause": cause, "level": 0.12}
    result: Any = SimpleNamespace(
        metrics={"images": {"photo": {"noise": noise}}}, samples=[torch.zeros(2, channels, 4, 4)]
    )
    found = advice(read(Path("photo.png")), result, Wishes(**wishes))
    assert found == (f"photo.png: the noise was estimated; {hint}" if hint else "")


@pytest.mark.parametrize(
    ("cause", "ratio", "hint"),
    [("overstated", 0.7, False), ("overstated", 0.4, True), ("understated", 1.2, True)],
)
def test_smoothed_colours_are_no_weaker_noise(cause, ratio, hint):
    noisy(0, (24, 32)).save("photo.jpg")
    noise = {"cause": cause, "level": 0.1 * ratio, "ratio": ratio}
    result: Any = SimpleNamespace(
        metrics={"images": {"photo": {"noise": noise}}}, samples=[torch.zeros(2, 3, 4, 4)]
    )
    assert bool(advice(read(Path("photo.jpg")), result, Wishes())) == hint


def test_the_posterior_mean_of_a_gaussian():
    """The prior N(0, s^2) and noise sigma: y s^2 / (s^2 + sigma^2), up to the steps of 8 bits."""
    _, mean = restored("balanced", samples=16, denoise=0.2)
    y = opened("photo.png") / 127.5 - 1
    assert np.abs(mean / 127.5 - 1 - 0.8 * y).max() < 1.1 / 255


def test_around_what_is_filled_nothing_changes():
    photo, white = opened("photo.png"), opened("mask.png") == 255
    _, mean = restored(samples=2, mask=Path("mask.png"))
    assert np.array_equal(mean[~white], photo[~white])
    assert (mean[white] != photo[white]).mean() > 0.9


def test_a_picture_with_holes_is_its_own_mask():
    photo, white = opened("photo.png"), opened("mask.png") == 255
    alpha = np.where(white, 0, 255).astype(np.uint8)
    alpha[0] = 200
    Image.fromarray(np.dstack([photo, alpha])).save("photo.png")
    _, mean = restored(samples=2, mask=Path("photo.png"))
    assert (mean[white][:, 3] == 255).all()
    assert np.array_equal(mean[~white], opened("photo.png")[~white])
    assert len(np.unique(mean[white][:, :3], axis=0)) > 50


def test_it_does_where_the_noise_is_said():
    photo, white = opened("photo.png"), opened("mask.png") == 255
    _, mean = restored(samples=2, mask=Path("mask.png"), denoise=0.2)
    assert (mean[~white] != photo[~white]).mean() > 0.8


def test_sixteen_bits_stay_and_eight_do_not_show():
    deep = opened("photo.png").astype(np.uint16) * 257
    Path("photo.png").write_bytes(deep_png.encode(deep))
    result, _ = restored(samples=2)
    mean, _ = deep_png.decode((OUT / "photo.png").read_bytes())
    exact = (result[0].mean.numpy().transpose(1, 2, 0) + 1) * 32767.5
    assert np.abs(mean - exact.clip(0, 65535)).max() <= 1.01
    assert len(np.unique(mean % 257)) > 100


def test_enlarged():
    _, mean = restored(samples=1, upscale=2.0)
    assert mean.shape == (48, 64, 3)
    assert opened(OUT / "photo/before-after.png").shape == (48, 136, 3)
    assert not (OUT / "photo/uncertainty.png").exists()


def test_grey_pictures_stay_grey():
    Image.fromarray(opened("photo.png")[..., 0]).save("photo.png")
    _, mean = restored(samples=1)
    assert mean.shape == (24, 32)


def begin(*arguments: Any) -> None:
    with begun(*arguments):
        pass


def test_what_is_there_is_not_written_over():
    def filling(mask: str) -> Any:
        wishes = Wishes(mask=Path(mask), prior="gaussian")
        return draft([Path("photo.png")], wishes, OUT / "photo.yaml", OUT)

    Image.fromarray(opened("mask.png").T.reshape(opened("mask.png").shape)).save("other.png")
    found, other = filling("mask.png"), filling("other.png")
    begin(found, OUT)
    begin(found, OUT)
    before = {path: path.read_bytes() for path in OUT.iterdir()}
    with pytest.raises(UserError, match=r"out/photo-mask.png is there, and is of something else"):
        begin(other, OUT)
    assert before == {path: path.read_bytes() for path in OUT.iterdir()}
    found = draft([Path("photo.png")], Wishes(prior="gaussian"), Path("r.yaml"), Path())
    with pytest.raises(
        UserError, match=r"photo.png is there, and was not restored here; choose another --output"
    ):
        begin(found, Path())
    assert not Path("r.yaml").exists()


@pytest.mark.parametrize("begun_before", [False, True])
def test_a_recipe_of_which_nothing_came_does_not_stand_in_the_way(begun_before):
    wishes = Wishes(mask=Path("mask.png"), prior="gaussian")
    found = draft([Path("photo.png")], wishes, OUT / "photo.yaml", OUT)
    if begun_before:
        (OUT / "photo").mkdir(parents=True)
        (OUT / "photo/recipe.yaml").write_text("format: 1")
    with pytest.raises(UserError, match="no"), begun(found, OUT):
        raise UserError("no")
    assert (OUT / "photo.yaml").exists() == (OUT / "photo-mask.png").exists() == begun_before
