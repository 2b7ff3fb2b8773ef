"""A measurement on another scale or of another custom is named with what mends it; a right one is not."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import daps_kit
from daps_kit.contracts import RandomStreams
from daps_kit.errors import UserError
from daps_kit.images import fit, load_image
from daps_kit.runs import plausible
from daps_kit.runs.plausible import doubts, require_possible

PHOTOGRAPH = fit(load_image(Path(str(files("daps_recipes") / "images" / "astronaut.png")), 3), (64, 64))
OPERATORS = {
    "identity": {},
    "inpainting": {"mask": "box"},
    "inpainting at random": {"mask": "random"},
    "gaussian_blur": {"kernel_size": 15, "intensity": 1.5},
    "motion_blur": {"kernel_size": 15},
    "down_sampling": {"scale_factor": 2},
    "high_dynamic_range": {},
    "phase_retrieval": {},
}
NOISES = {
    "gaussian": {"use": "gaussian", "sigma": 0.05},
    "little": {"use": "gaussian", "sigma": 0.01},
    "photons": {"use": "poisson", "peak": 30.0},
}


def made(name: str, noise: str = "gaussian", image: torch.Tensor = PHOTOGRAPH, **more):
    section = {"use": name.partition(" ")[0], "noise": NOISES[noise], **OPERATORS[name], **more}
    operator = daps_kit.build("operator", section, shape=tuple(image.shape))
    return operator, operator.measure(image[None], RandomStreams([3]))[0]


def kinds(operator, y, truth=None) -> list[str]:
    require_possible(operator, y)
    return [doubt.kind for doubt in doubts(operator, y, truth)]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", OPERATORS)
def test_what_the_operator_gives_is_not_doubted(name, noise):
    operator, y = made(name, noise)
    assert kinds(operator, y) == []
    assert kinds(operator, y, PHOTOGRAPH) == []
    if name != "phase_retrieval":  # as a picture of 8 bits keeps it
        assert kinds(operator, ((y.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1) == []


@pytest.mark.parametrize("brightness", [(0.45, 0.55), (-0.45, 0.55), (0.0, 0.4), (0.8, 0.2)])
@pytest.mark.parametrize("name", ["identity", "gaussian_blur", "inpainting"])
def test_bright_dark_and_pale_images_are_not_doubted(name, brightness):
    offset, contrast = brightness
    operator, y = made(name, image=offset + contrast * PHOTOGRAPH)
    assert kinds(operator, y) == []


def test_what_is_clipped_says_nothing_of_the_noise():
    image = torch.full_like(PHOTOGRAPH, 1.5)
    image[:, ::4] = 0.0
    operator, y = made("identity", image=image)
    for picture in (y.clamp(-1, 1), -y.clamp(-1, 1)):
        found = plausible._scatter(operator, picture, torch.ones_like(y, dtype=torch.bool))
        assert found == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("noise", ["gaussian", "photons"])
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "phase_retrieval"])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_other_scales_name_their_white_level(name, noise, white):
    operator, y = made(name, noise)
    other = (y + 1) / 2 * white
    try:
        texts = [doubt.text for doubt in doubts(operator, operator.project(other[None])[0], None)]
    except UserError as error:
        texts = [str(error)]
    assert white == 1 or "the operator gives" in texts[0]
    assert any(f"data.white_level: {white}" in text for text in texts) or (
        white == 1 and "less noise" in texts[0]
    )


def test_photon_counts_name_the_peak():
    operator, y = made("gaussian_blur", "photons")
    counts = (y + 1) / 2 * 30
    with pytest.raises(UserError, match="if these are counts.*data.white_level: 30, the peak of the noise"):
        list(doubts(operator, counts, None))


def test_magnitudes_where_signed_values_belong():
    operator, y = made("identity")
    assert "range" in kinds(operator, y.abs())


def test_the_range_of_an_operator_is_that_of_images_of_any_kind(tmp_path):
    np.save(tmp_path / "sharpen.npy", np.array([[-0.5, 2.0, -0.5]]))
    operator, _ = made("motion_blur", kernel=str(tmp_path / "sharpen.npy"))
    assert plausible._range(operator) == pytest.approx((-3.0, 3.0))


@pytest.mark.parametrize("name", ["identity", "inpainting at random", "down_sampling"])
def test_numbers_from_0_to_2(name):
    operator, y = made(name)
    assert "range" in kinds(operator, operator.project((y + 1)[None])[0])


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0, 10.0])
def test_a_true_image_tells_of_a_factor_of_magnitudes(factor):
    """Nearly all magnitudes are small beside the largest, by which a truth of 8 bits is not to be judged."""
    operator, y = made("phase_retrieval")
    assert list(doubts(operator, factor * y, PHOTOGRAPH))
    rounded = ((PHOTOGRAPH + 1) * 127.5).round() / 127.5 - 1
    assert not list(doubts(operator, y, rounded))


@pytest.mark.parametrize("factor", [2.5, 0.4])
def test_a_factor(factor):
    operator, y = made("gaussian_blur")
    assert kinds(operator, factor * y) != []


def test_a_true_image_tells_of_a_factor_and_of_a_flipped_kernel(tmp_path):
    psf = np.zeros((11, 11))
    psf[5, 5], psf[7, 8], psf[9, 10] = 3, 2, 1
    np.save(tmp_path / "psf.npy", psf)
    operator, y = made("motion_blur", "little", kernel=str(tmp_path / "psf.npy"))
    other, _ = made("motion_blur", "little", kernel=str(tmp_path / "psf.npy"), kernel_is="correlation")
    assert kinds(operator, y, PHOTOGRAPH) == []
    (doubt,) = doubts(other, y, PHOTOGRAPH, "It is convolved.")
    assert "a residual of" in doubt.text
    assert doubt.text.endswith("It is convolved.")
    assert kinds(operator, 0.8 * y, PHOTOGRAPH) == ["truth"]


TURNS = {
    "turned upside down, row by row": (-2,),
    "mirrored from left to right": (-1,),
    "turned by 180 degrees": (-2, -1),
    "given its channels the other way round": (-3,),
}


@pytest.mark.parametrize("words", TURNS)
@pytest.mark.parametrize("name", ["identity", "down_sampling"])
def test_a_true_image_tells_how_a_measurement_is_turned(name, words):
    operator, y = made(name)
    (doubt,) = doubts(operator, y.flip(TURNS[words]), PHOTOGRAPH)
    assert doubt.text.endswith(f"it fits once the measurement is {words}")


def test_a_true_image_tells_of_rows_that_are_columns_and_of_negatives():
    operator, y = made("identity")
    for other, words in (
        (y.mT, "given its rows as columns"),
        (y.rot90(-1, (-2, -1)), "turned by 90 degrees to the left"),
        (y.rot90(1, (-2, -1)), "turned by 90 degrees to the right"),
        (-y, "made a positive of, from black to white"),
    ):
        assert [
            doubt.text.partition("measurement is ")[2] for doubt in doubts(operator, other, PHOTOGRAPH)
        ] == [words]


@pytest.mark.parametrize("value", [0.0, -1.0, 0.3])
@pytest.mark.parametrize("name", ["identity", "inpainting", "down_sampling"])
def test_a_measurement_of_one_value_measures_nothing(name, value):
    operator, y = made(name)
    (doubt,) = doubts(operator, operator.project(torch.full_like(y, value)[None])[0], None)
    assert (doubt.kind, doubt.text) == ("empty", f"all of it is {value:.3g}: nothing was measured")


def test_regions_where_nothing_was_measured():
    operator, y = made("identity")
    for value in (-1.0, 1.0, 0.0, 0.37):
        hole = y.clone()
        hole[:, 16:32, 20:36] = value
        assert kinds(operator, hole) == ["empty"]
    y[:, 16:32, 20:36] = -0.0
    (doubt,) = doubts(operator, y, None)
    assert "-0" not in doubt.text
    inpainting, seen = made("inpainting")
    assert kinds(inpainting, seen) == []
    # Levels of 8 bits leave flat regions where there is less noise than a level.
    flat = (PHOTOGRAPH + 0.001 * RandomStreams([4]).normal(PHOTOGRAPH.shape)[0]).clone()
    flat[:, 16:32, 20:36] = 0.37 + 0.001 * RandomStreams([5]).normal((3, 16, 16))[0]
    clean = daps_kit.build(
        "operator", {"use": "identity", "noise": {"use": "gaussian", "sigma": 0.001}}, shape=(3, 64, 64)
    )
    assert "empty" not in kinds(clean, (flat * 127.5).round() / 127.5)
    # A dark night keeps half of its pixels at black where a picture was clipped, but no regions.
    night, dark = made("identity", image=torch.full_like(PHOTOGRAPH, -1.0))
    assert "empty" not in kinds(night, dark.clamp_min(-1))


def test_a_mask_the_wrong_way_round(tmp_path):
    operator, y = made("inpainting")
    mask = operator.observed[0, 0].numpy()
    np.save(tmp_path / "hidden.npy", 1 - mask)
    wrong, _ = made("inpainting", mask=str(tmp_path / "hidden.npy"))
    for filling in (0.0, -1.0, math.nan):
        filled = torch.where(operator.observed[0] > 0, y, filling)
        require_possible(operator, filled)
        with pytest.raises(UserError, match="operator.mask_is: hidden"):
            require_possible(wrong, filled)
    mended, _ = made("inpainting", mask=str(tmp_path / "hidden.npy"), mask_is="hidden")
    require_possible(mended, filled)


@pytest.mark.parametrize("mask", ["box", "random"])
def test_a_mask_that_is_off_by_a_pixel_shows_zeros(mask):
    operator, y = made("inpainting", mask=mask)
    other = torch.roll(operator.observed, (1, 1), (-2, -1))[0]
    assert kinds(operator, operator.project((y * other)[None])[0]) == ["mask"]
    assert kinds(operator, y) == []
    # Pictures have zeros of their own: of 8 bits with a level there.
    rounded = operator.project(((y.clamp(-1, 1) * 127).round() / 127)[None])[0]
    assert "mask" not in kinds(operator, rounded)


CUSTOMS = {
    "norm: none": lambda y: y * 96,
    "values: intensity": lambda y: y**2,
    "centred: false": lambda y: torch.fft.ifftshift(y, (-2, -1)),
    "norm: none, operator.values: intensity": lambda y: (96 * y) ** 2,
}


@pytest.mark.parametrize("said", CUSTOMS)
@pytest.mark.parametrize("noise", NOISES)
def test_transforms_of_other_customs_are_named(said, noise):
    operator, y = made("phase_retrieval", noise)
    other = CUSTOMS[said](y)
    with pytest.raises(UserError, match=f"one has with operator.{said}"):
        require_possible(operator, other)
    settings = {}
    for part in said.split(", "):
        key, value = part.removeprefix("operator.").split(": ")
        settings[key] = False if value == "false" else value
    mended, _ = made("phase_retrieval", noise, **settings)
    require_possible(mended, other)


def test_magnitudes_of_another_scale_or_sign():
    operator, y = made("phase_retrieval")
    with pytest.raises(UserError, match="data.white_level"):
        require_possible(operator, 255 * y)
    with pytest.raises(UserError, match="moduli and intensities are not negative"):
        require_possible(operator, y - 3)
