"""Pictures of a training: which they are, their scales, and who is credited."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daps_kit.errors import UserError
from daps_priors.training.photos.pictures import PictureSet

SCALES = ((1.0, 1.0), (0.5, 0.7), (0.35, 0.3))


def of(source, channels=3, held_out=2, side=32, scales=SCALES):
    return PictureSet(source, channels, held_out, side, scales, 0)


def test_a_list_says_what_is_held_out_and_who_is_credited(folder):
    found = of(folder / "pictures.csv").load(16)
    assert found.count == 3
    assert found.validation.shape == (2, 3, 32, 32)
    assert found.credits == [
        "A.jpg: Ann, CC-BY-4.0, https://example.org/a",
        "C.jpg: Cy, Expat (MIT)",
        "E.jpg: Ed, BSD-2-Clause",
    ]
    with Image.open(folder / "d.png") as picture:
        pixels = np.asarray(picture).astype(np.float32) / 127.5 - 1
    top, left = (pixels.shape[0] - 32) // 2, (pixels.shape[1] - 32) // 2
    wanted = pixels[top : top + 32, left : left + 32].transpose(2, 0, 1)
    np.testing.assert_allclose(found.validation[0].numpy(), wanted, atol=1e-6)
    assert found.identity != of(folder / "pictures.csv", channels=1).load(16).identity


def test_scales_are_means_and_those_too_small_are_left_out(folder):
    found = of(folder / "pictures.csv").load(20)
    assert [(tuple(p.pixels.shape), p.weight) for p in found.train[:3]] == [
        ((3, 48, 64), 1.0),
        ((3, 24, 32), 0.7),
        ((3, 56, 64), 1.0),
    ]
    whole, half = (found.train[i].pixels.double() for i in (0, 1))
    means = whole.reshape(3, 24, 2, 32, 2).mean((2, 4))
    assert float((half - means).abs().max()) <= 0.5


def test_a_folder_holds_some_out(folder):
    found = of(folder).load(16)
    assert (found.count, len(found.validation), found.credits) == (4, 2, [])


def test_grey(folder):
    found = of(folder / "pictures.csv", channels=1).load(16)
    assert found.train[0].pixels.shape[0] == found.validation.shape[1] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\na.png\n", "must have the columns `file` and `split`"),
        ("file,split\na.png,train\n", "no picture has the split `validation`"),
        ("", "must have the columns"),
    ],
)
def test_lists_that_are_of_no_use(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        of(path).load(16)


def test_pictures_that_are_of_no_use(folder, tmp_path):
    with pytest.raises(UserError, match=r"none.csv: No such file"):
        of(tmp_path / "none.csv").load(16)
    with pytest.raises(UserError, match=r"a.png is 64 x 48 pixels: patches need 64 x 64"):
        of(folder / "pictures.csv").load(64)
    with pytest.raises(UserError, match=r"d.png is 64 x 72 pixels: validation_side needs 66 x 66"):
        of(folder / "pictures.csv", side=66).load(16)
    path = folder / "torn.csv"
    path.write_text("file,split\nmissing.png,train\nd.png,validation\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read .*missing.png"):
        of(path).load(16)
