"""Arrays out of files, one function a format: which array of several, how large it is, then its numbers.

.npy .npz              numpy's own (never pickled objects)
.pt .pth               tensors only
.safetensors
.mat                   MATLAB's, up to version 7 by scipy, 7.3 by h5py (axes in MATLAB's order)
.h5 .hdf5              HDF5, by h5py
.nii .nii.gz           NIfTI, by nibabel: slope and intercept applied, axes as stored, the last left out where 1
.nc                    NetCDF, by xarray: scale and offset applied
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from daps_kit.errors import UserError, did_you_mean

from .guard import optional, require_safetensors, require_size, require_zip

__all__ = ["READERS", "Choice", "gunzip"]

Array = NDArray[Any]


class Choice:
    """Which array of a file is meant.

    Args:
        key: its name, where it was given.
        usual: names that are taken where none was given and there are several.
        setting: what to call the setting that gives a name; None where there is none.
    """

    def __init__(
        self, key: str | None = None, usual: Iterable[str] = ("y",), setting: str | None = "data.key"
    ) -> None:
        self.key, self.usual, self.setting = key, tuple(usual), setting

    def of(self, names: Iterable[str]) -> str:
        """Return the name that is meant.

        Raises:
            UserError: it is not among the names, or several may be meant.
        """
        there = list(names)
        shown = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
        if self.key is not None:
            if self.key not in there:
                raise UserError(
                    f"no array '{self.key}', it holds {shown or 'none'}{did_you_mean(self.key, there)}"
                )
            return self.key
        if len(there) == 1:
            return there[0]
        for name in self.usual:
            if name in there:
                return name
        advice = (
            f"say which as {self.setting}" if self.setting else f"one of them must be called {self.usual[0]}"
        )
        raise UserError(f"it holds {shown}; {advice}" if there else "it holds no array")


def _npy(path: Path, choice: Choice) -> Array:
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _npz(path, choice)
        file.seek(0)
        return _stream(file, path.stat().st_size)


def _npz(path: Path, choice: Choice) -> Array:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        chosen = entries[choice.of(entries)]
        require_size(path, chosen.file_size)
        with archive.open(chosen) as file:
            return _stream(file, chosen.file_size)


def _stream(file: IO[bytes], size: int) -> Array:
    """Read the array of an open .npy file of so many bytes."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise UserError("only arrays of numbers are read, it holds other objects")
    if math.prod(shape) * dtype.itemsize > size:
        raise UserError(
            f"it is cut short: {list(shape)} numbers of type {dtype} do not fit into {size} bytes"
        )
    file.seek(0)
    array: Array = np.load(file, allow_pickle=False)
    return array


def _torch(path: Path, choice: Choice) -> Any:
    import torch

    if zipfile.is_zipfile(path):
        require_zip(path)
    content: Any = torch.load(path, weights_only=True, map_location="cpu")
    if isinstance(content, dict):
        content = content[choice.of(map(str, content))]
    if not isinstance(content, torch.Tensor):
        return content
    require_size(path, content.numel() * content.element_size())
    dense = content.detach().to_dense() if content.layout != torch.strided else content.detach()
    # numpy has no bfloat16
    narrow = dense.is_floating_point() and dense.dtype not in (torch.float32, torch.float64, torch.float16)
    return (dense.float() if narrow else dense.resolve_conj().resolve_neg()).numpy()


def _safetensors(path: Path, choice: Choice) -> Array:
    from safetensors import safe_open

    header = require_safetensors(path)
    name = choice.of(key for key in header if key != "__metadata__")
    narrow = header[name]["dtype"] in ("BF16", "F8_E4M3", "F8_E5M2")  # numpy has none of these
    with safe_open(path, framework="pt" if narrow else "np") as file:
        tensor = file.get_tensor(name)
        array: Array = tensor.float().numpy() if narrow else tensor
        return array


def _mat(path: Path, choice: Choice) -> Array:
    from scipy.io import loadmat, whosmat

    with path.open("rb") as file:
        if b"MATLAB 7.3" in file.read(128):
            return _hdf5(path, choice)
    shapes = {name: (shape, kind) for name, shape, kind in whosmat(path)}
    name = choice.of(shapes)
    shape, kind = shapes[name]
    if kind in ("cell", "struct", "object", "char", "function", "opaque", "unknown"):
        raise UserError(f"expected an array of real numbers, {name} is a {kind}")
    require_size(path, math.prod(shape) * 8)  # at most
    values: Any = loadmat(path, variable_names=[name])[name]
    array: Array = values.toarray() if hasattr(values, "toarray") else values  # a sparse matrix
    return array.astype(bool) if kind == "logical" else array


def _hdf5(path: Path, choice: Choice) -> Array:
    h5py = optional("h5py")
    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("#"):
                found[name] = item

        file.visititems(visit)
        dataset = found[choice.of(found)]
        if dataset.dtype.kind not in "biufc" or dataset.shape is None:
            raise UserError(f"expected an array of real numbers, got {dataset.dtype}")
        require_size(path, dataset.size * dataset.dtype.itemsize)
        values: Array = dataset[()]
        kind = dataset.attrs.get("MATLAB_class")
    if kind is None:
        return np.asarray(values)
    # MATLAB counts the first axis fastest, so that HDF5 has its axes the other way round.
    return np.asarray(values).T.astype(bool) if kind == b"logical" else np.asarray(values).T


def gunzip(path: Path) -> bytes:
    """Return the content of a .gz file, which is not unpacked further than `require_size` allows.

    Raises:
        UserError: it is too large.
    """
    content = bytearray()
    with gzip.open(path) as file:
        while block := file.read(1 << 22):
            content += block
            require_size(path, len(content))
    return bytes(content)


def _nifti(path: Path, choice: Choice) -> Array:
    nibabel = optional("nibabel")
    data = gunzip(path) if path.name.lower().endswith(".gz") else path.read_bytes()
    newer = int.from_bytes(data[:4], "little") == 540 or int.from_bytes(data[:4], "big") == 540
    kind = nibabel.Nifti2Image if newer else nibabel.Nifti1Image
    image = kind.from_stream(io.BytesIO(data))
    shape, stored = image.header.get_data_shape(), image.header.get_data_dtype()
    if math.prod(shape) * stored.itemsize > len(data):
        raise UserError(f"it is cut short: {list(shape)} numbers of type {stored} do not fit into it")
    values: Array = np.asanyarray(image.dataobj)
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    return values


def _netcdf(path: Path, choice: Choice) -> Array:
    xarray = optional("xarray")
    with xarray.open_dataset(path, decode_times=False) as data:
        found = {str(name): variable for name, variable in data.data_vars.items()}
        variable = found[choice.of(found)]
        require_size(path, variable.size * variable.dtype.itemsize)
        values: Array = variable.to_numpy()
    return values


READERS: dict[str, Callable[[Path, Choice], Any]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".nc": _netcdf,
}
"""The reader of each format; what it returns need not be an array of real numbers yet."""
