"""The picture formats of the extra `formats`: depth, black and white, orientation, opacity."""

from __future__ import annotations

import importlib.util
import lzma
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit.arrays import read_array, read_map, read_numbers
from daps_kit.errors import UserError
from daps_kit.images import load_image

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)
COLOUR = RNG.integers(0, 65536, (6, 9, 3)).astype(np.uint16)


def close(read: torch.Tensor, expected: np.ndarray) -> None:
    assert read.dtype == torch.float32
    np.testing.assert_allclose(read.numpy(), expected, atol=3e-7)


def test_fits_with_bzero_and_the_first_row_first(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    fits.writeto(tmp_path / "u16.fits", GREY)
    assert fits.getheader(tmp_path / "u16.fits")["BZERO"] == 32768
    close(read_array(tmp_path / "u16.fits"), 2.0 * GREY[None] / 65535 - 1)
    fits.writeto(tmp_path / "real.fits", (GREY / 65535).astype(">f4"))
    close(read_array(tmp_path / "real.fits"), 2.0 * GREY[None] / 65535 - 1)
    close(load_image(tmp_path / "real.fits", 3), np.repeat(2.0 * GREY[None] / 65535 - 1, 3, 0))
    fits.writeto(tmp_path / "cube.fits.gz", COLOUR.transpose(2, 0, 1).astype(np.uint8))
    close(read_array(tmp_path / "cube.fits.gz"), 2.0 * COLOUR.astype(np.uint8).transpose(2, 0, 1) / 255 - 1)


def test_fits_of_magnitudes_signed_numbers_and_extensions(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    fits.writeto(tmp_path / "large.fits", GREY.astype(np.float32))
    close(read_array(tmp_path / "large.fits", black=0.0), GREY[None])
    with pytest.raises(UserError, match=r"large.fits: values out of range"):
        load_image(tmp_path / "large.fits")
    close(load_image(tmp_path / "large.fits", white_level=65535), 2.0 * GREY[None] / 65535 - 1)
    fits.writeto(tmp_path / "signed.fits", (GREY // 4).astype(np.int16))
    with pytest.raises(UserError, match=r"signed.fits: int16 does not tell which number is white"):
        read_array(tmp_path / "signed.fits")
    unit = fits.ImageHDU(GREY, name="PSF")
    fits.HDUList([fits.PrimaryHDU(), unit, fits.ImageHDU(GREY[::-1], name="OTHER")]).writeto(
        tmp_path / "e.fits"
    )
    assert np.array_equal(read_map(tmp_path / "e.fits"), GREY)
    close(read_array(tmp_path / "e.fits", "OTHER"), 2.0 * GREY[None, ::-1] / 65535 - 1)
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "none.fits")
    with pytest.raises(UserError, match=r"none.fits: it holds no picture"):
        read_array(tmp_path / "none.fits")


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_tiff_of_sixteen_bit_colour(tmp_path, layout):
    tifffile = pytest.importorskip("tifffile")
    values = COLOUR if layout == "contig" else COLOUR.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "c.tif", values, photometric="rgb", planarconfig=layout)
    close(load_image(tmp_path / "c.tif"), 2.0 * COLOUR.transpose(2, 0, 1) / 65535 - 1)


@pytest.mark.parametrize("dtype", ["u4", "f8", "f4", ">u2", ">f4"])
def test_tiff_of_any_depth(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    values = (GREY / 65535).astype(dtype) if "f" in dtype else GREY.astype(dtype)
    values = values * np.uint32(60000) if dtype == "u4" else values
    tifffile.imwrite(tmp_path / "g.tif", values, byteorder=">" if dtype[0] == ">" else "<")
    white = 1 if "f" in dtype else 2.0 ** (8 * np.dtype(dtype).itemsize) - 1
    close(read_array(tmp_path / "g.tif"), 2 * values[None].astype(float) / white - 1)


def test_tiff_of_colour_in_real_numbers_of_opacity_and_of_white_as_zero(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    unit = (COLOUR / 65535).astype(np.float32)
    tifffile.imwrite(tmp_path / "f.tif", unit, photometric="rgb")
    close(load_image(tmp_path / "f.tif"), 2 * unit.transpose(2, 0, 1) - 1)
    clear = np.concatenate([COLOUR, GREY[..., None]], 2)
    tifffile.imwrite(tmp_path / "a.tif", clear, photometric="rgb", extrasamples=["unassalpha"])
    alpha = GREY / 65535
    expected = unit.transpose(2, 0, 1) * alpha + 1 - alpha
    np.testing.assert_allclose(load_image(tmp_path / "a.tif").numpy(), 2 * expected - 1, atol=1e-6)
    tifffile.imwrite(tmp_path / "w.tif", GREY.astype(np.uint32), photometric="miniswhite")
    close(read_array(tmp_path / "w.tif"), 1 - 2.0 * GREY[None].astype(float) / (2**32 - 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_that_tifffile_reads_is_turned_upright_like_what_pillow_reads(tmp_path, orientation):
    tifffile = pytest.importorskip("tifffile")
    tag = [(274, "H", 1, orientation, True)]
    eight = (COLOUR // 257).astype(np.uint8)
    tifffile.imwrite(tmp_path / "8.tif", eight, photometric="rgb", extratags=tag)
    tifffile.imwrite(tmp_path / "16.tif", eight * np.uint16(257), photometric="rgb", extratags=tag)
    np.testing.assert_allclose(load_image(tmp_path / "16.tif"), load_image(tmp_path / "8.tif"), atol=1e-6)


def test_tiff_whose_white_is_zero_is_inverted_at_any_depth(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for kind in ("u1", "u2"):
        values = (GREY // 257).astype(kind) * np.dtype(kind).type(1 if kind == "u1" else 257)
        tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite")
        expected = 1 - 2 * values[None].astype(float) / np.iinfo(kind).max
        close(read_array(tmp_path / "w.tif"), expected)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4"])
def test_tiff_of_signed_numbers_has_no_white(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "s.tif", GREY.astype(kind))
    with pytest.raises(UserError, match=r"s\.tif: int.* does not tell which number is white"):
        read_array(tmp_path / "s.tif")


def test_tiff_whose_colours_are_multiplied_by_their_opacity(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    unit, alpha = COLOUR / 65535, GREY[..., None] / 65535
    values = (np.concatenate([unit * alpha, alpha], 2) * 65535).round().astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    expected = (unit * alpha + 1 - alpha).transpose(2, 0, 1)
    np.testing.assert_allclose(load_image(tmp_path / "m.tif").numpy(), 2 * expected - 1, atol=5e-5)


def test_a_packing_that_needs_another_package_is_not_called_damage(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("it is there")
    tifffile.imwrite(tmp_path / "lzw.tif", COLOUR, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "lzw.tif", mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(5)
    with pytest.raises(UserError, match=r"lzw\.tif: to unpack it needs imagecodecs: pip install imagecodecs"):
        read_array(tmp_path / "lzw.tif")


def test_fits_extensions_of_one_name_are_told_apart(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    first, second = np.full((4, 5), 0.25, np.float32), np.full((4, 5), 0.75, np.float32)
    units = [
        fits.PrimaryHDU(),
        *(fits.ImageHDU(v, name="SCI", ver=i + 1) for i, v in enumerate((first, second))),
    ]
    fits.HDUList(units).writeto(tmp_path / "two.fits")
    np.testing.assert_array_equal(read_numbers(tmp_path / "two.fits").values[0], first)
    np.testing.assert_array_equal(read_numbers(tmp_path / "two.fits", "SCI,2").values[0], second)


def test_a_picture_with_holes_says_that_they_are_nan(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    values = np.full((4, 5), 0.25, np.float32)
    values[1, 2:4] = np.nan
    fits.writeto(tmp_path / "holes.fits", values)
    with pytest.raises(UserError, match=r"holes\.fits: 2 of 20 values are infinite or NaN"):
        load_image(tmp_path / "holes.fits")


def test_dicom_of_palette_colours_is_not_taken_for_grey(tmp_path):
    path = dicom(tmp_path / "p.dcm", GREY.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(UserError, match=r"p\.dcm: DICOM of palette colours is not read; write it as RGB"):
        read_array(path)


def dicom(path, values, **tags):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_dicom(tmp_path):
    twelve = GREY // 16
    close(
        read_array(dicom(tmp_path / "g.dcm", twelve, BitsStored=12, HighBit=11)),
        2.0 * twelve[None] / 4095 - 1,
    )
    inverted = dicom(
        tmp_path / "i.dcm", twelve, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"
    )
    close(read_array(inverted), 1 - 2.0 * twelve[None] / 4095)
    scaled = dicom(tmp_path / "r.dcm", twelve, RescaleSlope=2, RescaleIntercept=-1024)
    close(read_array(scaled), 2.0 * twelve[None] - 1024)
    eight = COLOUR.astype(np.uint8)
    close(load_image(dicom(tmp_path / "c.dcm", eight)), 2.0 * eight.transpose(2, 0, 1) / 255 - 1)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "g.dcm").read_bytes()[:-40])
    with pytest.raises(UserError, match=r"cut.dcm"):
        read_array(tmp_path / "cut.dcm")


def test_only_pictures_are_taken_for_pictures(tmp_path):
    """A picture under another picture's suffix is read; a script for a program that Pillow would start is not."""
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "x.bmp")
    (tmp_path / "x.bmp").rename(tmp_path / "x.png")
    close(read_array(tmp_path / "x.png"), 2.0 * GREY[None].astype(np.uint8) / 255 - 1)
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    with pytest.raises(UserError, match=r"x.jpg: it is no picture of a known kind"):
        read_array(tmp_path / "x.jpg")


@pytest.mark.parametrize("packing", ["zlib", "lzma"])
def test_a_tiff_whose_strips_unpack_to_more_than_it_says(tmp_path, packing):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "bomb.tif"
    values = np.arange(192, dtype=np.uint16).reshape(8, 8, 3)
    tifffile.imwrite(path, values, photometric="rgb", compression=packing)
    np.testing.assert_array_equal(read_numbers(path).values, values.transpose(2, 0, 1))
    with tifffile.TiffFile(path) as file:
        counts, offsets = (file.pages.first.tags[name] for name in ("StripByteCounts", "StripOffsets"))
        at = (counts.valueoffset, offsets.valueoffset)
    data, packed = (
        bytearray(path.read_bytes()),
        (zlib if packing == "zlib" else lzma).compress(bytes(1 << 24)),
    )
    for place, number in zip(at, (len(packed), len(data)), strict=True):
        data[place : place + 4] = number.to_bytes(4, "little")
    path.write_bytes(data + packed)
    with pytest.raises(UserError, match=r"bomb\.tif: it is damaged: it unpacks to more than its header says"):
        read_numbers(path)


def test_dicom_that_is_packed_as_a_whole(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = dicom(tmp_path / "x.dcm", np.arange(16, dtype=np.uint16).reshape(4, 4))
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    with pytest.raises(UserError, match=r"x\.dcm: DICOM that is packed as a whole \(deflated\) is not read"):
        read_numbers(path)
