"""Whatever a file is, its reader gives its numbers or one line with its name, and never unpacks a bomb."""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from daps_kit.arrays import read_array
from daps_kit.errors import UserError
from daps_kit.reading import ARRAY_SUFFIXES, PICTURE_SUFFIXES, reading, suffix_of
from tests.host.array_files import MADE, line


@pytest.mark.parametrize(
    "error",
    [
        IndexError("x"), TypeError(), AssertionError(), zlib.error("x"), struct.error("x"), MemoryError(),
        NotImplementedError("x"), Image.DecompressionBombError("x"), PermissionError(13, "Permission denied"),
        UnicodeDecodeError("ascii", b"x", 0, 1, "x"), RecursionError("x"), KeyError("x"), SyntaxError("x"),
        RuntimeError("two\nlines \x1b[31m"),
    ],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_every_exception_becomes_a_line(tmp_path, error):
    path = tmp_path / "mine.npy"
    path.touch()
    with pytest.raises(UserError, match="mine.npy") as caught, reading(path):
        raise error
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is error


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(line(tmp_path / "pipe.npy")), daemon=True)
    thread.start()
    thread.join(10)
    assert found
    assert "no regular file" in found[0]
    (tmp_path / "folder.npy").mkdir()
    assert "it is a folder" in line(tmp_path / "folder.npy")
    assert "No such file" in line(tmp_path / "gone.npy")
    assert "File name too long" in line(tmp_path / f"{'long' * 1250}.npy")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    np.save(tmp_path / "mine.npy", MADE)
    (tmp_path / "mine.npy").chmod(0)
    assert "Permission denied" in line(tmp_path / "mine.npy")


def test_an_unknown_suffix_lists_the_formats(tmp_path):
    for name in ("y.xyz", "y", "y.npy.bak", "y.txt"):
        (tmp_path / name).write_bytes(b"")
        text = line(tmp_path / name)
        assert all(suffix in text for suffix in (*ARRAY_SUFFIXES, *PICTURE_SUFFIXES))
    assert suffix_of(Path("A.NII.GZ")) == ".nii.gz"
    assert suffix_of(Path("x.tar.gz")) == ".gz"


def write_format(kind: str, path: Path) -> None:
    """Write MADE by the library that a format belongs to."""
    if kind == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("y", data=MADE, compression="gzip")
    elif kind.startswith("nii"):
        import nibabel

        nibabel.Nifti1Image(MADE, np.eye(4)).to_filename(path)
    elif kind == "fits":
        from astropy.io import fits

        fits.writeto(path, ((MADE + 1) / 2).astype(">f4"))
    else:
        from tests.host.reading.test_picture_formats import dicom

        dicom(path, ((MADE[0] + 1) * 2047).astype(np.uint16))


def content(kind: str, folder: Path) -> Path:
    path = folder / f"good.{kind}"
    if kind in ("npy", "npz"):
        np.save(path, MADE) if kind == "npy" else np.savez_compressed(path, y=MADE)
    elif kind in ("pt", "pth"):
        torch.save({"y": torch.from_numpy(MADE)}, path, _use_new_zipfile_serialization=kind == "pt")
    elif kind == "safetensors":
        save_file({"y": torch.from_numpy(MADE)}, path)
    elif kind in FORMATS:
        pytest.importorskip(FORMATS[kind])
        write_format(kind, path)
    elif kind == "mat":
        scipy_io = pytest.importorskip("scipy.io")
        scipy_io.savemat(path, {"y": MADE}, do_compression=True)
    else:
        Image.fromarray(((MADE.transpose(1, 2, 0) + 1) * 127).astype(np.uint8)).save(path)
    return path


FORMATS = {"h5": "h5py", "nii": "nibabel", "nii.gz": "nibabel", "fits": "astropy", "dcm": "pydicom"}
KINDS = [
    "npy", "npz", "pt", "pth", "safetensors", "mat", "png", "jpg", "tif", "gif", "bmp", "ppm", "webp", *FORMATS,
]  # fmt: skip


def damaged(good: bytes, index: int, rng: np.random.Generator) -> bytes:
    """Return a file with bytes changed, cut off, or put in."""
    data = bytearray(good)
    place = int(rng.integers(0, min(len(data), 400 if index % 2 else len(data))))
    if index % 4 == 0:
        del data[place:]
    elif index % 4 == 3:
        data[place:place] = data[: int(rng.integers(1, 40))]
    else:
        for step in range(int(rng.integers(1, 6))):
            data[(place + step) % len(data)] = int(rng.integers(0, 256))
    return bytes(data)


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_give_numbers_or_a_line(tmp_path, kind, count):
    good = content(kind, tmp_path).read_bytes()
    rng = np.random.default_rng(len(kind) + ord(kind[0]))
    refused = 0
    for index in range(count):
        path = tmp_path / f"bad-{index}.{kind}"
        path.write_bytes(damaged(good, index, rng))
        start = time.perf_counter()
        try:
            read_array(path)
        except UserError as error:
            refused += 1
            assert path.name in str(error)  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
        assert time.perf_counter() - start < 10
    assert refused >= count // 8


# --- sizes


def test_an_array_larger_than_its_file_is_cut_short(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    (tmp_path / "huge.npy").write_bytes(header.getvalue())
    assert "cut short" in line(tmp_path / "huge.npy")


def zipped(path: Path, name: str, size: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return path


def test_archives_that_unpack_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "8")
    for path in (
        zipped(tmp_path / "b.npz", "y.npy", 16 << 20),
        zipped(tmp_path / "b.pt", "b/data/0", 16 << 20),
    ):
        assert "would become 16 MiB, which is more than 64 times the file and 8 MiB" in line(path)
    np.savez_compressed(tmp_path / "meant.npz", y=np.zeros((4, 1 << 20), np.float32))
    assert "DAPS_KIT_UNPACK_MIB" in line(tmp_path / "meant.npz")
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "32")
    assert read_array(tmp_path / "meant.npz").shape == (4, 1 << 20)
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "much")
    assert "must be a number" in line(tmp_path / "meant.npz")


def test_a_picture_that_unpacks_to_too_much(tmp_path, monkeypatch):
    Image.new("L", (4000, 4000)).save(tmp_path / "flat.png")
    assert read_array(tmp_path / "flat.png").shape == (1, 4000, 4000)
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "1")
    assert "would become" in line(tmp_path / "flat.png")


def test_a_tensor_that_repeats_one_number_is_no_measurement(tmp_path):
    torch.save(torch.zeros(1).expand(10**10), tmp_path / "wide.pt")
    assert "would become" in line(tmp_path / "wide.pt")


def test_headers_of_many_tensors(tmp_path):
    entry = b'"t": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},'
    text = b"{" + entry * 300_000
    (tmp_path / "many.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert "its header has" in line(tmp_path / "many.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(struct.pack("<Q", 2**62))
    assert "does not fit into the file" in line(tmp_path / "cut.safetensors")
    (tmp_path / "\udcff.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(UserError, match="its path is not in UTF-8"):
        read_array(tmp_path / "\udcff.safetensors")


def test_what_libraries_log_stays_with_them(tmp_path, caplog):
    path = tmp_path / "mine.npy"
    path.touch()
    with reading(path):
        logging.getLogger("library").critical("magic string \x1b[2J")
    logging.getLogger("library").critical("after")
    assert caplog.messages == ["after"]
    with pytest.raises(UserError), reading(path):
        raise ValueError
    logging.getLogger("library").critical("and after that")
    assert caplog.messages == ["after", "and after that"]


def test_one_limit_for_pictures_and_no_other(tmp_path, monkeypatch):
    Image.new("1", (14_000, 14_000)).save(tmp_path / "wide.png")  # more than Pillow itself would open
    assert "set DAPS_KIT_UNPACK_MIB if it is meant" in line(tmp_path / "wide.png")
    Image.new("L", (300, 300)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_array(tmp_path / "small.png").shape == (1, 300, 300)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_cannot_log_is_read_without_the_loggers(tmp_path, monkeypatch):
    """To switch them all off and on again takes longer than to read a small file."""
    calls = []
    monkeypatch.setattr(logging, "disable", calls.append)
    (tmp_path / "a.txt").write_text("a")
    for logs in (False, True):
        with pytest.raises(UserError, match="a.txt"), reading(tmp_path / "a.txt", logs=logs):
            raise ValueError("any")
        assert bool(calls) == logs
