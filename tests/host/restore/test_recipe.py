"""Recipes that are written: they say what was wished, and are valid."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from daps_kit import build
from daps_kit.errors import UserError
from daps_kit.recipe import Recipe, load_recipe
from daps_kit.restore import recipe as module
from daps_kit.restore.picture import read
from daps_kit.restore.recipe import LEAST, Draft, Wishes, draft
from daps_kit.restore.results import begun
from tests.host.restore.conftest import noisy

pytestmark = pytest.mark.usefixtures("work")

PRIOR = "{use: gaussian, std: 0.4}"


def opened(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def drafted(*names: str, **wishes: Any) -> Draft:
    wishes.setdefault("prior", PRIOR)
    return draft(
        [Path(name) for name in names or ("photo.png",)], Wishes(**wishes), Path("r.yaml"), Path("out")
    )


def section(name: str = "operator", **wishes: Any) -> dict[str, Any]:
    return yaml.safe_load(drafted(**wishes).text)[name]


def loaded(found: Draft) -> tuple[Recipe, ...]:
    with begun(found):
        return load_recipe(found.path)


@pytest.mark.parametrize("wishes", [{"mask": Path("\udcff.png")}, {"psf": Path("a\nb.npy")}])
def test_a_name_that_no_recipe_can_hold(wishes):
    with pytest.raises(UserError, match="which a recipe cannot hold; rename it"):
        drafted(**wishes)


def test_noise_is_estimated_and_said():
    found = drafted()
    content = yaml.safe_load(found.text)
    assert content["operator"]["use"] == "identity"
    assert content["operator"]["noise"]["sigma"] == pytest.approx(0.1, rel=0.2)
    sigma = content["operator"]["noise"]["sigma"]
    assert found.said == [f"photo.png: 32 x 24, noise {sigma} ({sigma * 127.5:.2g} of 255), estimated"]
    assert content["data"] == {
        "use": "measurement", "path": str(Path("photo.png").absolute()), "image_shape": [3, 24, 32],
    }  # fmt: skip
    assert content["prior"] == {"use": "gaussian", "std": 0.4}
    assert content["sampler"] == {"use": "daps", "budget": "balanced"}
    assert content["runs"] == 4
    (recipe,) = loaded(found)
    assert recipe.output == Path("out/photo").absolute()


@pytest.mark.parametrize(("subsampling", "coarse"), [("4:4:4", False), ("4:2:2", True), ("4:2:0", True)])
def test_of_coarse_colours_the_brightness_tells_the_noise(subsampling, coarse):
    noisy(0, (96, 96), sigma=0.2).save("photo.jpg", quality=98, subsampling=subsampling)
    found = drafted("photo.jpg", blur=0.5)
    sigma = yaml.safe_load(found.text)["operator"]["noise"]["sigma"]
    assert sigma == pytest.approx(0.2 * (1.157 if coarse else 1), rel=0.1)
    assert found.said[0].endswith("so that there seems to be less" if coarse else "estimated")


def test_of_jpeg_the_noise_is_that_before_it_was_saved():
    noisy(0, (96, 96)).save("photo.jpg", quality=90, subsampling="4:2:0")
    for wish, how in ((None, ""), ("auto", ", as it cannot be drawn")):
        found = drafted("photo.jpg", denoise=wish)
        operator = yaml.safe_load(found.text)["operator"]
        sigma = operator["noise"]["sigma"]
        assert operator["use"] == "jpeg"
        assert operator["file"] == str(Path("photo.jpg").absolute())
        assert sigma == pytest.approx(0.1, rel=0.1)
        assert found.said == [
            f"photo.jpg: 96 x 96, noise {sigma:g} ({sigma * 127.5:.2g} of 255) before it was saved, estimated by what "
            f"JPEG kept{how}"
        ]
    given = drafted("photo.jpg", denoise=0.3)
    assert yaml.safe_load(given.text)["operator"]["noise"]["sigma"] == 0.3
    assert given.said[0].endswith("before it was saved, as given")
    loaded(given)


@pytest.mark.parametrize(
    "wishes", [{"blur": 1.0}, {"upscale": 2.0}, {"counts": 50.0}, {"motion": (5.0, 0.0)}], ids=str
)
def test_of_jpeg_other_tasks_take_its_pixels(wishes):
    noisy(0, (96, 96)).save("photo.jpg", quality=90)
    found = yaml.safe_load(drafted("photo.jpg", **wishes).text)["operator"]
    assert found["use"] != "jpeg"


def test_of_a_jpeg_that_is_too_small_the_pixels_tell():
    noisy(0, (17, 17)).save("photo.jpg", quality=90)
    for wish, used in ((None, "identity"), (0.1, "jpeg")):
        assert yaml.safe_load(drafted("photo.jpg", denoise=wish).text)["operator"]["use"] == used


def test_noise_as_given():
    assert section(denoise=0.3)["noise"] == {"use": "gaussian", "sigma": 0.3}
    assert section(counts=30.0)["noise"] == {"use": "poisson", "peak": 30.0}
    assert drafted(counts=30.0).said == ["photo.png: 32 x 24, 30 photons at white"]


def test_what_is_not_known_is_left_open():
    found = drafted(blur="auto", denoise="auto")
    assert found.said == ["photo.png: 32 x 24, noise not known"]
    (recipe,) = loaded(found)
    assert set(recipe.operator.left_open) == {"intensity"}
    assert recipe.operator.noise.left_open["sigma"].ends[0] == pytest.approx(LEAST, rel=0.01)
    with pytest.raises(UserError, match="shows one noise in 3 channels of this prior"):
        module._noise(read(Path("photo.png")), Wishes(denoise="auto"), 3)


def test_a_kernel_that_is_not_known_has_a_size():
    blurred = drafted(psf="auto")
    assert blurred.text.startswith("# Undo a blur of any kernel, which is not known.")
    (recipe,) = loaded(blurred)
    assert recipe.operator.kernel.unknown.size == 21


def test_a_motion_that_is_not_known_has_any_angle():
    moved = drafted(motion="auto")
    (recipe,) = loaded(moved)
    assert moved.text.startswith("# Undo a motion that is not known.")
    assert recipe.operator.left_open["length"].ends == pytest.approx((1, 40), rel=1e-4)
    assert recipe.operator.left_open["angle"].ends == pytest.approx((0, 180), abs=1e-3)


def test_noise_below_rounding_is_not_believed():
    y, x = np.mgrid[:64, :64]
    Image.fromarray((40000 + 300 * y + 11 * x + (x * y) % 2).astype(np.uint16)).save("photo.png")
    assert section()["noise"]["sigma"] == pytest.approx(LEAST, rel=0.01)


def test_flat_pictures_say_nothing_of_their_noise():
    Image.new("RGB", (32, 24)).save("photo.png")
    with pytest.raises(UserError, match=r"photo.png: too few pixels tell how strong the noise is; say it"):
        drafted()
    drafted(denoise=0.1)


@pytest.mark.parametrize(
    ("wishes", "operator"),
    [
        ({"blur": 2.0}, {"use": "gaussian_blur", "kernel_size": 17, "intensity": 2.0}),
        ({"motion": (9.0, 30.0)}, {"use": "linear_motion_blur", "length": 9.0, "angle": 30.0}),
        ({"upscale": 1.5}, {"use": "down_sampling", "scale_factor": 1.5}),
    ],
)
def test_operators(wishes, operator):
    assert section(denoise=0.1, **wishes) == operator | {"noise": {"use": "gaussian", "sigma": 0.1}}
    loaded(drafted(denoise=0.1, **wishes))


def test_the_taps_of_a_gaussian_fit_into_their_kernel():
    """What a larger kernel adds is nothing."""
    x = torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    chosen = section(blur=1.7, denoise=0.1)
    larger = chosen | {"kernel_size": 61}
    a, b = (build("operator", o, shape=(1, 24, 32)).forward(x) for o in (chosen, larger))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("times", [1.5, 2.0, 3.0, 3.7, 4.0])
@pytest.mark.parametrize("size", [(24, 32), (17, 23), (29, 19)])
def test_the_enlarged_picture_is_measured_as_the_small_one(times, size):
    noisy(0, size).save("photo.png")
    shape = section("data", upscale=times, denoise=0.1)["image_shape"]
    assert shape[1:] == [int(side * times + 1e-9) for side in size]
    operator = build("operator", section(upscale=times, denoise=0.1), shape=shape)
    assert operator.forward(torch.zeros(1, *shape)).shape == (1, 3, *size)


def test_fine_details_of_a_small_picture_are_no_noise():
    assert section()["noise"]["sigma"] > 0.05
    assert section(upscale=2.0)["noise"]["sigma"] == 0.01
    assert section(upscale=2.0, denoise=0.1)["noise"]["sigma"] == 0.1


def test_masks_are_files_beside_the_recipe():
    found = draft(
        [Path("photo.png")], Wishes(mask=Path("mask.png"), prior=PRIOR), Path("m.yaml"), Path("out")
    )
    (recipe,) = loaded(found)
    operator = recipe.operator.build(shape=(3, 24, 32), seed=0, device=torch.device("cpu"))
    white = opened("mask.png") == 255
    assert np.array_equal(operator.observed[0, 0].numpy() == 0, white)


def test_a_point_is_blurred_to_the_picture_of_the_point():
    levels = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    Image.fromarray(levels).save("psf.png")
    point = torch.zeros(1, 1, 16, 16)
    point[..., 8, 8] = 1
    operator = build("operator", section(psf=Path("psf.png"), denoise=0.1), shape=(1, 16, 16))
    expected = np.zeros((16, 16))
    expected[6:10, 6:11] = levels / levels.sum()
    np.testing.assert_allclose(operator.forward(point)[0, 0].numpy(), expected, atol=1e-6)


def test_the_noise_under_a_mask_does_not_count():
    pixels = opened("photo.png").copy()
    pixels[10:13, 4:] = np.random.default_rng(1).integers(0, 256, (3, 28, 3))
    Image.fromarray(pixels).save("photo.png")
    there, with_holes = (section(mask=mask)["noise"]["sigma"] for mask in (Path("mask.png"), None))
    assert there == pytest.approx(0.1, rel=0.25)
    assert there < with_holes


def test_masks_of_another_size_are_refused():
    noisy(0, (24, 30)).save("photo.png")
    with pytest.raises(UserError, match=r"mask mask.png has 32 x 24 pixels, but photo.png has 30 x 24"):
        drafted(mask=Path("mask.png"))


def test_grey_pictures():
    noisy(0, (24, 32), 1).save("photo.png")
    assert section("data")["image_shape"] == [1, 24, 32]


class _Offered:
    """A registry that offers priors of some names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def components(self, kind: str) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.names if kind == "prior"]


def test_photographs_are_the_prior_if_none_is_wished(monkeypatch):
    monkeypatch.setattr("daps_kit.restore.recipe.default_registry", lambda: _Offered("photos", "photos_grey"))
    assert section("prior", prior=None) == {"use": "photos"}
    noisy(0, (24, 32), 1).save("photo.png")
    assert section("prior", prior=None) == {"use": "photos_grey"}
    assert section("data", prior=None)["image_shape"] == [1, 24, 32]
    assert section(prior=None, counts=30.0)["noise"]["peak"] == 30


def test_without_a_prior_of_grey_ones_grey_is_measured_three_times(monkeypatch):
    """The three have one noise: the grey of their colours is as well known as from one channel."""
    noisy(0, (24, 32), 1).save("photo.png")
    single = section()["noise"]["sigma"]
    monkeypatch.setattr("daps_kit.restore.recipe.default_registry", lambda: _Offered("photos"))
    assert section("prior", prior=None) == {"use": "photos"}
    assert section("data", prior=None)["image_shape"] == [3, 24, 32]
    assert section(prior=None)["noise"]["sigma"] == pytest.approx(single * np.sqrt(3), rel=1e-4)
    assert section(prior=None, counts=30.0)["noise"]["peak"] == 10


def test_priors_are_looked_up():
    with pytest.raises(UserError, match=r"no prior and no recipe 'gausian'; .* did you mean 'gaussian'"):
        drafted(prior="gausian")
    with pytest.raises(UserError, match="prior.std: expected more than 0"):
        drafted(prior="{use: gaussian, std: -1}")
    assert section("prior", prior="gaussian") == {"use": "gaussian"}


def test_several_pictures_are_tasks():
    noisy(1, (16, 20), 1).save("other.png")
    found = drafted("photo.png", "other.png")
    assert found.names == ["photo", "other"]
    assert found.pixels == [24 * 32, 16 * 20]
    recipes = loaded(found)
    assert [recipe.output for recipe in recipes] == [
        Path("out/photo").absolute(),
        Path("out/other").absolute(),
    ]
    assert [recipe.data.image_shape for recipe in recipes] == [(3, 24, 32), (1, 16, 20)]
    assert recipes[0].operator != recipes[1].operator
