"""Arrays in files: every format, nothing unpickled, damage named."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit.arrays import read_array, read_map, read_numbers
from daps_kit.errors import UserError
from tests.host.array_files import MADE, Y, line, written


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"y": Evil()}, "evil.pt")
    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    Path("plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "evil.npy", "plain.pt"):
        with pytest.raises(UserError, match=name):
            read_array(Path(name))
    assert not Path("evil").exists()


def test_damaged_files_and_wrong_keys(tmp_path):
    for kind in ("npy", "npz", "pt", "safetensors"):
        path = written(tmp_path, kind, Y)
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(UserError, match=f"cannot read .*mine.{kind}") as caught:
            read_array(path)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "two.npz", blurred=np.zeros(2), sharp=np.ones(2))
    with pytest.raises(UserError, match="holds blurred, sharp; say which"):
        read_array(tmp_path / "two.npz")
    with pytest.raises(UserError, match="no array 'blured', it holds blurred, sharp; did you mean 'blurred'"):
        read_array(tmp_path / "two.npz", "blured")
    assert read_array(tmp_path / "two.npz", "sharp").tolist() == [1, 1]
    np.save(tmp_path / "text.npy", np.array(["a"]))
    with pytest.raises(UserError, match="expected an array of real numbers, got <U1"):
        read_array(tmp_path / "text.npy")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="expected an array of real numbers, got list"):
        read_array(tmp_path / "list.pt")


# --- byte orders and types


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", ">f2", "longdouble"])
def test_any_byte_order_and_real_type(tmp_path, dtype):
    values = MADE.astype(np.float16)
    np.save(tmp_path / "y.npy", values.astype(np.dtype(dtype)))
    np.savez(tmp_path / "y.npz", y=np.asfortranarray(values.astype(np.dtype(dtype))))
    for name in ("y.npy", "y.npz"):
        read = read_array(tmp_path / name)
        assert read.dtype == torch.float32
        assert np.array_equal(read.numpy(), values)
        assert np.array_equal(read_map(tmp_path / name), values)


@pytest.mark.parametrize(
    ("dtype", "white"), [("u1", 255), ("<u2", 65535), (">u2", 65535), ("<u4", 2**32 - 1), ("?", 1)]
)
def test_whole_numbers_are_scaled_like_a_picture_of_their_depth(tmp_path, dtype, white):
    values = np.array([[0, white // 3, white]]).astype(dtype)
    np.save(tmp_path / "y.npy", values)
    expected = 2 * values.astype(np.float64) / white - 1
    np.testing.assert_allclose(read_array(tmp_path / "y.npy").numpy(), expected, atol=2e-7)
    # Masks and kernels are what they are.
    assert np.array_equal(read_map(tmp_path / "y.npy"), values)


def test_whole_numbers_and_pictures_of_that_depth_agree(tmp_path):
    for dtype in (np.uint8, np.uint16):
        values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, 7)).astype(dtype)
        np.save(tmp_path / "y.npy", values)
        Image.fromarray(values).save(tmp_path / "y.png")
        assert torch.equal(read_array(tmp_path / "y.npy"), read_array(tmp_path / "y.png")[0])


def test_signed_numbers_need_a_white_level(tmp_path):
    np.save(tmp_path / "y.npy", np.arange(4, dtype=">i2"))
    assert "white_level" in line(tmp_path / "y.npy")
    assert read_array(tmp_path / "y.npy", white_level=2.0).tolist() == [-1, 0, 1, 2]


def test_the_white_level_and_black_of_the_operator(tmp_path):
    counts = np.array([0, 15, 30, 45], dtype=np.uint16)
    np.save(tmp_path / "y.npy", counts)
    assert read_array(tmp_path / "y.npy", white_level=30).tolist() == [-1, 0, 1, 2]
    assert read_array(tmp_path / "y.npy", white_level=30, black=0.0).tolist() == [0, 0.5, 1, 1.5]
    with pytest.raises(UserError, match="no scale as magnitudes"):
        read_array(tmp_path / "y.npy", black=0.0)
    np.save(tmp_path / "unit.npy", np.array([0.0, 0.25, 1.0]))
    assert read_array(tmp_path / "unit.npy").tolist() == [0, 0.25, 1]
    assert read_array(tmp_path / "unit.npy", white_level=1).tolist() == [-1, -0.5, 1]


def test_twelve_bits_in_sixteen(tmp_path):
    values = np.array([[0, 2048, 4095]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "g12.tif")
    read = read_array(tmp_path / "g12.tif", white_level=4095)
    np.testing.assert_allclose(read[0].numpy(), 2 * values / 4095 - 1, atol=1e-6)
    assert read_array(tmp_path / "g12.tif").max().item() == pytest.approx(2 / 16 - 1, abs=1e-4)


# --- opacity


HIDDEN = np.s_[8:16, 4:12]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_in_a_mask_is_hidden(tmp_path, mode):
    kept = np.full((16, 16), 255, np.uint8)
    kept[HIDDEN] = 0
    if mode == "P":
        picture = Image.fromarray((kept == 0).astype(np.uint8), "L").convert("P")
        picture.putpalette([255, 255, 255] * 2)
        picture.save(tmp_path / "mask.png", transparency=1)
    else:
        white = Image.new("RGB" if mode == "RGBA" else "L", (16, 16), "white")
        white.putalpha(Image.fromarray(kept))
        white.save(tmp_path / "mask.png")
    assert np.array_equal(read_map(tmp_path / "mask.png") != 0, kept != 0)


def test_a_kernel_in_the_opacity(tmp_path):
    kernel = np.arange(25, dtype=np.uint8).reshape(5, 5)
    picture = Image.new("RGB", (5, 5), "white")
    picture.putalpha(Image.fromarray(kernel))
    picture.save(tmp_path / "kernel.png")
    np.testing.assert_allclose(read_map(tmp_path / "kernel.png"), kernel, rtol=1e-6)


@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_picture_of_one_colour_says_all_by_its_opacity(tmp_path, colour):
    kernel = np.arange(25, dtype=np.uint8).reshape(5, 5)
    picture = Image.new("RGB", (5, 5), colour)
    picture.putalpha(Image.fromarray(kernel))
    picture.save(tmp_path / "kernel.png")
    np.testing.assert_allclose(read_map(tmp_path / "kernel.png"), kernel, rtol=1e-6)
    picture.putalpha(255)
    picture.save(tmp_path / "opaque.png")
    assert (read_map(tmp_path / "opaque.png") > 0).all() == (colour != "black")


def test_numbers_too_large_for_single_precision_are_infinite(tmp_path):
    np.save(tmp_path / "y.npy", np.array([1e300, -1e300, 1.0]))
    assert read_array(tmp_path / "y.npy").tolist() == [np.inf, -np.inf, 1.0]


@pytest.mark.parametrize("dtype", ["<c8", ">c8", ">c16"])
def test_complex_numbers_of_any_byte_order_are_named(tmp_path, dtype):
    np.save(tmp_path / "y.npy", np.ones(3, dtype))
    with pytest.raises(UserError, match="give magnitudes, or real and imaginary parts"):
        read_array(tmp_path / "y.npy")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_deep_grey_with_alpha_keeps_one_channel_and_its_depth(tmp_path):
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 65536, (9, 11)).astype(np.uint16)
    for label, alpha in (("opaque", np.full_like(grey, 65535)), ("clear", rng.integers(0, 65536, (9, 11)))):
        pixels = np.stack([grey, alpha], -1).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        body = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 9, 16, 4, 0, 0, 0))
        body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (tmp_path / f"{label}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        opacity = alpha / 65535
        expected = 2 * (grey / 65535 * opacity + 1 - opacity) - 1
        read = read_array(tmp_path / f"{label}.png")
        assert read.shape == (1, 9, 11)
        np.testing.assert_allclose(read[0].numpy(), expected, atol=1e-6)


def test_nothing_is_guessed_of_several_arrays(tmp_path):
    np.savez(tmp_path / "two.npz", psf=np.ones((3, 3)), other=np.ones(4))
    assert read_map(tmp_path / "two.npz", "kernel", "psf").shape == (3, 3)
    with pytest.raises(UserError, match="it holds psf, other; one of them must be called mask"):
        read_map(tmp_path / "two.npz", "mask")
    assert "say which as data.key" in line(tmp_path / "two.npz")


def test_matlab_files(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    logical = MADE[0] > 0
    scipy_io.savemat(tmp_path / "y.mat", {"y": MADE, "mask": logical, "name": "text", "cells": [1, "a"]})
    assert np.array_equal(read_array(tmp_path / "y.mat").numpy(), MADE)
    assert np.array_equal(read_map(tmp_path / "y.mat", "mask"), logical)
    with pytest.raises(UserError, match=r"y.mat.*name is a char"):
        read_array(tmp_path / "y.mat", "name")
    numbers = read_numbers(tmp_path / "y.mat", "y")
    assert numbers.white is None
    assert not numbers.picture
