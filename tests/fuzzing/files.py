"""Files of every format that is read, damaged in every way, through every reader that takes them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from daps_kit import tensor_file
from daps_kit.arrays import read_array, read_map, read_numbers
from daps_kit.calibration import CalibrationTable, read_calibration, write_calibration
from daps_kit.errors import UserError
from daps_kit.images import load_image
from daps_kit.restore.picture import read as read_picture
from daps_kit.runs.finished import read_result
from daps_operators.nonlinear_blur import weights as blur_weights
from daps_operators.nonlinear_blur.network import ShakeNetworkConfig
from daps_priors.photos import weights as photo_weights
from daps_priors.photos.calibration import PhotoCalibration
from daps_priors.published.pipeline_files import Pipeline
from daps_priors.trained import weights as denoiser_weights
from daps_priors.trained.network import blank

from .mutate import mutated_bytes, mutated_tree
from .watch import Case

__all__ = ["FORMATS", "OURS", "READERS", "file_cases"]

MADE = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 4, 4)


def _npy(file: Any) -> None:
    np.save(file, MADE)


def _npz(path: Path) -> None:
    np.savez_compressed(path, y=MADE, mask=MADE[0])


def _mat(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"y": MADE})


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("y", data=MADE, compression="gzip")


def _nifti(path: Path) -> None:
    import nibabel

    nibabel.Nifti1Image(MADE, np.eye(4)).to_filename(path)


def _fits(path: Path) -> None:
    from astropy.io import fits

    fits.writeto(path, ((MADE + 1) / 2).astype(">f4"))


def _dicom(path: Path) -> None:
    from tests.host.reading.test_picture_formats import dicom

    dicom(path, ((MADE[0] + 1) * 2047).astype(np.uint16))


def _tifffile(path: Path) -> None:
    import tifffile

    tifffile.imwrite(
        path, ((MADE + 1) * 30000).astype(np.uint16).transpose(1, 2, 0), photometric="rgb", compression="zlib"
    )


def _deep_png(path: Path) -> None:
    from daps_kit.reading.deep_png import encode

    path.write_bytes(encode(((MADE + 1) * 30000).astype(np.uint16).transpose(1, 2, 0)))


def _picture(path: Path) -> None:
    Image.fromarray(((MADE.transpose(1, 2, 0) + 1) * 127).astype(np.uint8)).save(path)


FORMATS: dict[str, Callable[[Path], object]] = {
    "npy": _npy,
    "npz": _npz,
    "pt": lambda path: torch.save({"y": torch.from_numpy(MADE)}, path),
    "pth": lambda path: torch.save({"y": torch.from_numpy(MADE)}, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: save_file({"y": torch.from_numpy(MADE)}, path),
    "mat": _mat,
    "h5": _hdf5,
    "nii": _nifti,
    "nii.gz": _nifti,
    "fits": _fits,
    "fits.gz": _fits,
    "dcm": _dicom,
    "tif": _tifffile,
    "tiff": _picture,
    "deep.png": _deep_png,
    **{kind: _picture for kind in ("png", "jpg", "jp2", "gif", "bmp", "ppm", "webp", "tga")},
}
"""How a file of each format is written; those whose library is not there are left out."""


def _zip_inside(data: bytes, change: Callable[[bytes], bytes], draw: Random) -> bytes:
    """Change what is in an entry of an archive, and pack it again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = draw.choice(names)
        for name in names:
            content = old.read(name)
            new.writestr(name, change(content) if name == chosen else content)
    return out.getvalue()


def _png_inside(data: bytes, change: Callable[[bytes], bytes], draw: Random) -> bytes:
    """Change what is in a chunk of a PNG file, under a right checksum."""
    chunks, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    chosen = draw.randrange(len(chunks))
    out = data[:8]
    for index, (kind, content) in enumerate(chunks):
        if index == chosen:
            content = change(content)
            if kind == b"IDAT" and draw.random() < 0.5:
                content = zlib.compress(bytes(draw.choice((10, 10**6, 10**7))))
        out += (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )
    return out


def _safetensors_inside(data: bytes, change: Callable[[bytes], bytes], draw: Random) -> bytes:
    """Change the header of a .safetensors file as a tree, under a right length and, of ours, a right checksum."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    said = (header.get("__metadata__") or {}).get(tensor_file.KEY)
    if said is not None and draw.random() < 0.8:
        header["__metadata__"] = {tensor_file.KEY: json.dumps(mutated_tree(json.loads(said), draw))}
    else:
        header = mutated_tree(header, draw)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + numbers


INSIDE: dict[str, Callable[[bytes, Callable[[bytes], bytes], Random], bytes]] = {
    "npz": _zip_inside,
    "pt": _zip_inside,
    "safetensors": _safetensors_inside,
    "png": _png_inside,
    "deep.png": _png_inside,
    "nii.gz": lambda data, change, draw: gzip.compress(change(gzip.decompress(data))),
    "fits.gz": lambda data, change, draw: gzip.compress(change(gzip.decompress(data))),
}
"""How a format is opened, so that what is inside is damaged while its checksums are right."""
BOMB = 3 << 26
"""Bytes that are more than are unpacked."""
HUGE = (10**5, 10**6, 2**31 - 1, 2**32 - 1, 2**40)


def _huge(kind: str, good: bytes, draw: Random) -> bytes:
    """Return a small file that says that it is huge, or becomes it."""
    side = draw.choice(HUGE)
    if kind in ("npy", "npz"):
        header = io.BytesIO()
        shape = draw.choice(((side, side), (side,), (1, side, 3), (0, side), ()))
        np.lib.format.write_array_header_1_0(
            header,
            {
                "descr": draw.choice(("<f4", "|u1", "<c16", "|O", "<U9")),
                "fortran_order": False,
                "shape": shape,
            },
        )
        if kind == "npy":
            return header.getvalue() + bytes(draw.choice((0, 100, 10**6)))
        return _zipped({"y.npy": header.getvalue() + bytes(draw.choice((0, 10**6, BOMB)))})
    if kind == "pt":
        return _zip_inside(good, lambda content: content + bytes(BOMB), draw)
    if kind == "safetensors":
        text = draw.choice(
            (
                json.dumps(
                    {"y": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side * side]}}
                ).encode(),
                b"{" + b'"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 300_000,
                b"[" * 10**6,
                b'{"a":' * 10**5,
            )
        )
        return draw.choice((len(text), 2**60, 2**64 - 1)).to_bytes(8, "little") + text
    if kind in ("png", "deep.png"):
        depth = 16 if kind == "deep.png" else 8
        header = struct.pack(
            ">IIBBBBB",
            side % 2**31,
            draw.choice(HUGE) % 2**31,
            depth,
            draw.choice((0, 2, 3, 4, 6)),
            0,
            0,
            draw.choice((0, 1)),
        )
        data = zlib.compress(bytes(draw.choice((100, 10**7))))
        return good[:8] + b"".join(
            len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
            for name, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
        )
    if kind.endswith(".gz"):
        return gzip.compress(draw.choice((gzip.decompress(good), b""))) + _packed_zeros()
    if kind == "ppm":
        return f"P6\n{side} {draw.choice(HUGE)}\n255\n".encode() + bytes(100)
    changed = bytearray(good)
    place = draw.randrange(min(len(good), 100))
    changed[place : place + 4] = side.to_bytes(8, draw.choice(("little", "big")))[-4:]
    return bytes(changed)


@cache
def _packed_zeros() -> bytes:
    return gzip.compress(bytes(BOMB), 1)


def _zipped(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def damaged(kind: str, goods: dict[str, bytes], draw: Random) -> bytes:
    """Return a bad file of a kind: damaged outside or inside, of another kind, empty, or huge."""
    good = goods[kind]
    match draw.randrange(12):
        case 0:
            return goods[draw.choice(sorted(goods))]
        case 1:
            return draw.choice(
                (
                    b"",
                    b"\0" * 1000,
                    b"<html>",
                    b"PK\x03\x04",
                    b"hello\n",
                    draw.randbytes(500),
                    b"\x80\x04",
                    b"{}",
                )
            )
        case 2 | 3:
            return _huge(kind, good, draw)
        case 4 | 5 | 6 | 7 if kind in INSIDE:
            return INSIDE[kind](good, lambda content: mutated_bytes(content, draw), draw)
        case _:
            return mutated_bytes(good, draw)


READERS: dict[str, Callable[[Path], object]] = {
    "measurement": read_array,
    "image": load_image,
    "map": lambda path: read_map(path, "kernel"),
    "training": lambda path: read_numbers(path, usual=("images", "y"), setting=None),
    "restore": read_picture,
}
"""What reads files of all formats."""


def _denoiser(path: Path) -> None:
    arguments: dict[str, Any] = {
        "components": 2,
        "channels": (8, 8),
        "blocks": (1, 1),
        "embedding": 16,
        "attention": 1,
    }
    model = blank((3, 16, 16), **arguments, sigma_range=(0.01, 100.0))
    for parameter in model.parameters():
        parameter.detach().zero_()
    for buffer in model.state_dict().values():
        buffer.nan_to_num_(0.5)
    denoiser_weights.save(path, model, arguments, _table(3, 9), {"training": {}, "card": {"title": "x"}})


def _table(channels: int, rings: int) -> CalibrationTable:
    return CalibrationTable(
        torch.tensor([0.1, 1.0, 10.0]),
        torch.tensor([0.1, 0.2, 0.3]),
        torch.ones(3, channels, rings),
        torch.eye(channels),
        4,
    )


def _photos(path: Path) -> None:
    arguments: dict[str, Any] = {"widths": (8, 8), "blocks": (1, 1), "embedding": 8}
    model = photo_weights.blank(3, **arguments)
    calibration = PhotoCalibration(
        torch.tensor([0.1, 1.0]), torch.tensor([0.1, 0.2]), torch.ones(2, 3, 8), 0.01, model.linear, 4
    )
    photo_weights.save(path, model, arguments, calibration, {"training": {}, "card": {}})


def _blur(path: Path) -> None:
    sizes = ShakeNetworkConfig(kernel_dim=12, modes=4, radius=4, moments=32, width=8, hidden=64)
    blur_weights.save_weights(path, blur_weights.blank(sizes), {"measured": {}, "training": {}, "card": {}})


OURS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "calibration": (lambda path: write_calibration(path, _table(3, 9)), read_calibration),
    "denoiser": (_denoiser, denoiser_weights.load),
    "photos": (_photos, lambda path: photo_weights.load(path, torch.device("cpu"))),
    "blur": (_blur, blur_weights.load_blur),
}
"""Files of our own: how they are written, and what reads them."""
METRICS = {
    "images": {"a": {"psnr": 20.0}}, "lost": [], "network_calls": 20.0, "summary": {"mean": {"psnr": {"mean": 20.0, "std": 1.0}}},
}  # fmt: skip
RESOLVED = {
    "format": 1, "prior": {"use": "gaussian"}, "operator": {"use": "identity", "noise": {"use": "gaussian", "sigma": 0.05}},
    "sampler": {"use": "daps", "kernel": {"use": "auto"}, "annealing": {"levels": 3}, "ode": {"steps": 2}}, "runs": 1,
}  # fmt: skip


def file_cases(count: int, folder: Path) -> Iterator[Case]:
    """Yield so many bad files of each format, and of each kind of our own.

    Args:
        count: of each.
        folder: where good ones are written.
    """
    goods: dict[str, bytes] = {}
    for kind, write in FORMATS.items():
        try:
            write(path := folder / f"good.{kind}")
        except (ImportError, KeyError, OSError):  # an extra, or a reader of Pillow's, that is not there
            continue
        goods[kind] = path.read_bytes()
    _packed_zeros()  # once, for all processes
    for kind in goods:
        for index in range(count):
            yield Case(
                f"file.{kind}",
                f"{index}",
                lambda place, draw, kind=kind: _read(
                    place, damaged(kind, goods, draw), f"bad.{kind}", READERS
                ),
            )
    for name, (write, read) in OURS.items():
        write(path := folder / f"{name}.safetensors")
        own = {**goods, "safetensors": path.read_bytes()}
        for index in range(count):
            yield Case(
                f"file of {name}", f"{index}",
                lambda place, draw, own=own, read=read: _read(place, damaged("safetensors", own, draw), "bad.safetensors", {"own": read}),
            )  # fmt: skip
    for index in range(count):
        yield Case("results", f"{index}", _result)
        yield Case("index of a pipeline", f"{index}", _index)


def _read(place: Path, data: bytes, name: str, readers: dict[str, Callable[[Path], object]]) -> str:
    path = place / name
    path.write_bytes(data)
    read, refusal = 0, None
    for reader in readers.values():
        try:
            reader(path)
            read += 1
        except UserError as error:
            refusal = error
    if refusal is not None and not read:
        raise refusal
    return "read"


def _result(place: Path, draw: Random) -> str:
    for name, tree in (("recipe.yaml", RESOLVED), ("metrics.json", METRICS)):
        data = json.dumps(mutated_tree(tree, draw) if draw.random() < 0.6 else tree).encode(
            "utf-8", "surrogatepass"
        )
        (place / name).write_bytes(mutated_bytes(data, draw) if draw.random() < 0.3 else data)
    read_result(place)
    return "read"


def _index(place: Path, draw: Random) -> str:
    tree = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    data = json.dumps(mutated_tree(tree, draw)).encode("utf-8", "surrogatepass")
    (place / "model_index.json").write_bytes(mutated_bytes(data, draw) if draw.random() < 0.4 else data)
    Pipeline(str(place)).require("unet", "UNet2DModel")
    return "read"
