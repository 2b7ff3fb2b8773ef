"""Training images: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daps_kit.errors import UserError
from daps_priors.training.dataset import load_images
from tests.priors.training.discs import shapes


def save(folder: Path, name: str, array: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(array.squeeze()).save(folder / name)
    return folder / name


def test_folder_glob_and_archive_agree(tmp_path: Path) -> None:
    images = shapes(6)
    for i, image in enumerate(images):
        save(tmp_path / "images", f"{i}.png", image)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    np.savez(tmp_path / "all.npz", images=images)
    for source in (tmp_path / "images", tmp_path / "images" / "*.png", tmp_path / "all.npz"):
        assert np.array_equal(load_images(source, 16), images)


def test_larger_images_are_cropped_and_reduced(tmp_path: Path) -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = 200
    save(tmp_path / "wide", "a.png", wide)
    assert np.array_equal(load_images(tmp_path / "wide", 16), np.full((1, 16, 16, 3), 200, np.uint8))


def test_too_small(tmp_path: Path) -> None:
    save(tmp_path / "small", "tiny.png", shapes(1, 12)[0])
    with pytest.raises(UserError, match=r"tiny\.png is 12 x 12 pixels: too small.*16 x 16"):
        load_images(tmp_path / "small", 16)
    np.savez(tmp_path / "small.npz", images=shapes(3, 12))
    with pytest.raises(UserError, match=r"row 0 is 12 x 12"):
        load_images(tmp_path / "small.npz", 16)


def test_grey_mixed_with_colour(tmp_path: Path) -> None:
    save(tmp_path / "mixed", "a.png", shapes(1)[0])
    save(tmp_path / "mixed", "b.png", shapes(1, channels=1)[0])
    with pytest.raises(UserError, match=r"b\.png has 1 channel.*a\.png has 3.*not on both"):
        load_images(tmp_path / "mixed", 16)


def test_a_corrupt_file(tmp_path: Path) -> None:
    path = save(tmp_path / "bad", "a.png", shapes(1)[0])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        load_images(tmp_path / "bad", 16)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(UserError, match=r"cannot read .*bad\.npz"):
        load_images(tmp_path / "bad.npz", 16)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images at"):
        load_images(tmp_path / "*.png", 16)
    np.savez(tmp_path / "other.npz", pictures=shapes(2))
    with pytest.raises(UserError, match=r"no array 'images', it holds pictures"):
        load_images(tmp_path / "other.npz", 16)
    np.savez(tmp_path / "floats.npz", images=np.zeros((3, 16, 16, 3)))
    with pytest.raises(UserError, match="must be uint8"):
        load_images(tmp_path / "floats.npz", 16)


def test_more_bits_than_eight_are_rounded_to_eight(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_images(tmp_path / "deep.png", 16)[0, ..., 0], np.rint(deep / 257))
