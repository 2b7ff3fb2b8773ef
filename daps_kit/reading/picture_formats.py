"""Pictures out of files, as they are stored: [C, H, W] of one or three channels, the number of white, the opacity.

by Pillow      PNG, JPEG, TIFF, BMP, GIF, WebP, ...: grey and 16-bit grey at full depth, palette, CMYK and YCbCr as
               red, green and blue, EXIF orientation applied, the first picture of several
by deep_png    PNG of 16 bits in colour or with opacity, at full depth
by tifffile    TIFF of any other depth, turned upright; of signed whole numbers it is not known which is white
by astropy     FITS: BZERO and BSCALE applied, the first row of the array is the first row of the picture
by pydicom     DICOM: rescaled, where it says how; white is the largest number of its bits
"""

from __future__ import annotations

import io
import lzma
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from daps_kit.errors import UserError

from . import deep_png
from .array_formats import Choice, gunzip
from .guard import Numbers, optional, require_size

__all__ = ["open_picture", "read_picture"]

BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 258, 262, 274, 339
"""Tags of TIFF."""
DEFLATED = "1.2.840.10008.1.2.1.99"
"""A transfer syntax of DICOM, which is unpacked before anything is known of its size."""
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "TGA")
"""What Pillow may take a file for, whatever it is called; others run programs or have readers here."""
TURNED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda array: array,
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: array[::-1].swapaxes(0, 1),
    7: lambda array: array[::-1, ::-1].swapaxes(0, 1),
    8: lambda array: array[:, ::-1].swapaxes(0, 1),
}
"""How [H, W, ...] is turned upright, by the orientation that EXIF gives."""


def open_picture(source: Path) -> Image.Image:
    """Open a picture by Pillow, of those formats alone, and whatever its size: `require_size` is what limits that."""
    Image.init()
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pillow(path: Path, choice: Choice) -> Numbers:
    """Read what Pillow reads."""
    with path.open("rb") as file:
        head = file.read(26)
    if deep_png.is_deep(head) and head[25:] != b"\0":
        return _deep_png(path)
    with open_picture(path) as file:
        require_size(path, math.prod(file.size) * 4)
        bits = tuple(getattr(file, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,)))
        file.load()
        return _stored(ImageOps.exif_transpose(file), bits[0])


def _stored(picture: Image.Image, bits: int = 8) -> Numbers:
    mode, alpha = picture.mode, None
    if mode.startswith("I;16") or mode == "I":
        return Numbers(_native(np.asarray(picture))[None], 4095.0 if bits == 12 else 65535.0, picture=True)
    if mode == "F":
        return Numbers(_native(np.asarray(picture))[None], 1.0, picture=True)
    grey = mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = (np.asarray(picture.getchannel("A")) / np.float32(255)).astype(np.float32, copy=False)
    values = np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    return Numbers(values[:1] if grey else values, 255.0, alpha, picture=True)


def _deep_png(path: Path) -> Numbers:
    """Read a PNG of 16 bits a channel in colour or with opacity, of which Pillow gives 8."""
    values, alpha = deep_png.decode(path.read_bytes(), lambda unpacked: require_size(path, unpacked))
    with open_picture(path) as file:
        turned = TURNED.get(file.getexif().get(ExifTags.Base.Orientation, 1), TURNED[1])
    opacity = None if alpha is None else (turned(alpha) / np.float32(65535)).astype(np.float32, copy=False)
    return Numbers(turned(values).transpose(2, 0, 1), 65535.0, opacity, picture=True)


def _tiff(path: Path, choice: Choice) -> Numbers:
    """Read a TIFF file by Pillow where that loses nothing, else by tifffile."""
    try:
        with open_picture(path) as file:
            tags = getattr(file, "tag_v2", {})
            bits, form = tuple(tags.get(BITS_PER_SAMPLE, (8,))), int(tags.get(SAMPLE_FORMAT, (1,))[0])
            deep = (bits, form) in (((12,), 1), ((16,), 1), ((32,), 3)) and tags.get(PHOTOMETRIC) == 1
            if deep or (max(bits) <= 8 and form == 1):
                return _pillow(path, choice)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                raise
    with optional("tifffile").TiffFile(path) as tiff:
        page = tiff.pages.first
        require_size(path, math.prod(page.shape) * page.dtype.itemsize)
        _require_segments(path, page)
        values, axes = _native(_unpacked(page)), str(page.axes)
        inverted, depth = int(page.photometric) == 0, int(page.bitspersample)
        turn = TURNED.get(page.tags.valueof(ORIENTATION, 1), TURNED[1])
        multiplied = tuple(map(int, page.extrasamples)) == (1,)
    values = np.moveaxis(values, axes.index("S"), -1) if "S" in axes else values[..., None]
    values = np.moveaxis(turn(values), -1, 0)
    white = float(2**depth - 1) if values.dtype.kind in "ub" else 1.0 if values.dtype.kind == "f" else None
    if inverted and white is not None:
        values = (white - values).astype(values.dtype)
    if len(values) in (2, 4) and white is not None:
        alpha = (values[-1] / white).astype(np.float32)
        if multiplied:
            values = (values / np.maximum(alpha, 1 / white)).clip(0, white)
        return Numbers(values[:-1], white, None if (alpha == 1).all() else alpha, picture=True)
    return Numbers(values, white, picture=True)


def _unpacked(page: Any) -> NDArray[Any]:
    try:
        values: NDArray[Any] = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise UserError("to unpack it needs imagecodecs: pip install imagecodecs") from error
        raise
    return values


def _require_segments(path: Path, page: Any) -> None:
    """Refuse a TIFF file whose packed parts, which tifffile unpacks whole, become larger than its header says."""
    kinds: dict[int, Callable[[], Any]] = {
        8: zlib.decompressobj,
        32946: zlib.decompressobj,
        34925: lzma.LZMADecompressor,
    }
    if (unpacker := kinds.get(int(page.compression))) is None:
        return
    allowed = math.prod(page.shape) * page.dtype.itemsize + (1 << 20)  # tiles reach beyond the edges
    with path.open("rb") as file:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            if len(unpacker().decompress(file.read(count), allowed)) >= allowed:
                raise UserError("it is damaged: it unpacks to more than its header says")


def _fits(path: Path, choice: Choice) -> Numbers:
    fits = optional("astropy.io.fits")
    packed = path.name.lower().endswith(".gz")
    with io.BytesIO(gunzip(path)) if packed else path.open("rb") as raw, fits.open(raw, memmap=False) as file:
        images: dict[str, Any] = {}
        for index, unit in enumerate(file):
            if getattr(unit, "is_image", False) and unit.header.get("NAXIS", 0) > 0:
                name = str(unit.name) if unit.name and index else str(index)
                images[f"{name},{unit.ver}" if name in images else name] = unit
        if not images:
            raise UserError("it holds no picture")
        unit = images[choice.of(images) if choice.key is not None else next(iter(images))]
        require_size(path, math.prod(unit.shape) * abs(int(unit.header["BITPIX"])) // 8)
        values = _native(np.asarray(unit.data))
    while values.ndim > 3 and len(values) == 1:
        values = values[0]
    return _scaled(values if values.ndim > 2 else values[None])


def _dicom(path: Path, choice: Choice) -> Numbers:
    dicom = optional("pydicom")
    if dicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise UserError(
            "DICOM that is packed as a whole (deflated) is not read; write it as explicit little endian"
        )
    data = dicom.dcmread(path)
    if data.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise UserError("DICOM of palette colours is not read; write it as RGB")
    frames = int(data.get("NumberOfFrames", 1) or 1)
    samples = int(data.get("SamplesPerPixel", 1) or 1)
    size = frames * samples * int(data.Rows) * int(data.Columns)
    require_size(path, size * int(data.get("BitsAllocated", 8)) // 8)
    stored = _native(data.pixel_array)
    values = np.moveaxis(stored, -1, -3) if samples > 1 else np.expand_dims(stored, -3)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    if (slope, intercept) != (1, 0):
        return Numbers(values * slope + intercept, None, picture=True)
    if values.dtype.kind == "f":
        return Numbers(values, 1.0, picture=True)
    white = float(2 ** int(data.BitsStored) - 1) if values.dtype.kind == "u" else None
    if white is not None and data.get("PhotometricInterpretation") == "MONOCHROME1":
        values = (white - values).astype(values.dtype)
    return Numbers(values, white, picture=True)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in the byte order of this machine."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _scaled(values: NDArray[Any]) -> Numbers:
    """Return a picture whose white is the largest number of its type, 1 for real numbers; none for signed ones."""
    kind = values.dtype.kind
    white = float(np.iinfo(values.dtype).max) if kind == "u" else 1.0 if kind == "f" else None
    return Numbers(values, white, picture=True)


READERS: dict[str, Callable[[Path, Choice], Numbers]] = {
    ".tif": _tiff,
    ".tiff": _tiff,
    ".fits": _fits,
    ".fit": _fits,
    ".fts": _fits,
    ".fits.gz": _fits,
    ".dcm": _dicom,
}
"""The reader of each format that Pillow does not read by itself."""


def read_picture(path: Path, suffix: str, choice: Choice) -> Numbers:
    """Return a picture as it is stored."""
    return READERS.get(suffix, _pillow)(path, choice)
