"""Which images a training holds out."""

from __future__ import annotations

import numpy as np
import pytest

from daps_kit.errors import UserError
from daps_kit.training_images import picture_files, split


def test_held_out_images_are_spread_and_fixed() -> None:
    train, held = split(1789, 64, 0)
    assert sorted(train + held) == list(range(1789))
    assert all(
        a <= row < b for row, a, b in zip(held, np.arange(64) * 27.9, np.arange(1, 65) * 28, strict=True)
    )
    assert split(1789, 64, 0)[1] == held
    assert split(1789, 64, 1)[1] != held


def test_at_most_half_are_held_out() -> None:
    train, held = split(128, 64, 0)
    assert (len(train), len(held)) == (64, 64)
    with pytest.raises(UserError, match="127 images are too few to hold 64"):
        split(127, 64, 0)


def test_files_of_a_folder_and_of_a_glob(tmp_path) -> None:
    for name in ("b.png", "a.JPG", "deep/c.pgm", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in picture_files(tmp_path)] == ["a.JPG", "b.png", "c.pgm"]
    assert [file.name for file in picture_files(tmp_path / "*.png")] == ["b.png"]
    with pytest.raises(UserError, match=r"no images at .*\.gif"):
        picture_files(tmp_path / "*.gif")
