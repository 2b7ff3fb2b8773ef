"""Read a pickle of tensors or arrays without running anything in it.

Older training checkpoints hold, beside tensors, objects of classes that need not even be installed, which PyTorch's own
restricted reader refuses. Here every class or function beyond a short list becomes an inert placeholder: it takes any
arguments and any state, and does nothing with them. Tensors are made only of the storages that are asked for, so the
optimiser's half of a checkpoint costs no memory.

Importing this module does not import torch.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daps_kit.errors import UserError
from daps_kit.reading import reading

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["StoredTensor", "read_arrays", "read_restricted", "require_stored"]


MANY = 1 << 22
"""How many numbers a tensor may make of fewer."""


class _Placeholder:
    """What an unknown class or function becomes: takes everything, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Placeholder:
        return self

    def append(self, item: Any) -> None:
        """Ignore an item."""

    def extend(self, items: Iterable[Any]) -> None:
        """Ignore items."""

    def add(self, item: Any) -> None:
        """Ignore an item."""


class StoredTensor:
    """A tensor that is still in the file."""

    def __init__(self, archive: zipfile.ZipFile, storage: tuple[Any, ...], layout: tuple[Any, ...]) -> None:
        self.archive, self.storage, self.layout = archive, storage, layout

    def __setstate__(self, state: Any) -> None:
        pass

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the tensor that `make` returns."""
        return tuple(self.layout[1])

    def make(self) -> Tensor:
        """Read it.

        Raises:
            ValueError: it is a view of a few numbers that would become far more.
        """
        import torch

        dtype, key, count = self.storage
        offset, size, stride = self.layout
        require_stored(math.prod(size), count)
        data = bytearray(self.archive.read(key))
        flat = torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
        return torch.as_strided(flat, size, stride, offset).clone()


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    names = (
        "Float float32, Double float64, Half float16, BFloat16 bfloat16, Long int64, Int int32, Short int16, "
    )
    names += "Char int8, Byte uint8, Bool bool"
    pairs = (pair.split() for pair in names.split(", "))
    return {f"{name}Storage": getattr(torch, dtype) for name, dtype in pairs}


def read_restricted(path: Path) -> Any:
    """Read a zipped checkpoint with placeholders for what is not a tensor, and tensors that are read when made.

    Raises:
        UserError: it is no checkpoint of PyTorch, or was written on a big-endian machine. What is raised at a damaged
            one is for `daps_kit.reading.reading` to put in words.
    """
    archive = zipfile.ZipFile(path)
    pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise UserError(f"{path} is a zip archive but not a PyTorch checkpoint: it has no data.pkl")
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise UserError(f"{path} was written on a big-endian machine, which is not supported")
    dtypes = _dtypes()

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        return (
            StoredTensor(archive, storage, (offset, size, stride))
            if isinstance(storage, tuple)
            else _Placeholder()
        )

    def parameter(data: Any, *rest: Any) -> Any:
        return data

    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch", "Size"): tuple,
        **{("torch", name): dtype for name, dtype in dtypes.items()},
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return known.get((module, name), _Placeholder)

        def persistent_load(self, pid: Any) -> Any:
            if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in dtypes.values():
                return pid[1], f"{folder}data/{pid[2]}", pid[4]
            return _Placeholder()

    with archive.open(pickled) as file:
        return _load(Reader(file))


def require_stored(numbers: int, stored: int) -> None:
    """Refuse a tensor that has far more numbers than there are behind it, which repeats them.

    Raises:
        ValueError: it does.
    """
    if numbers > max(stored, MANY):
        raise ValueError(f"a tensor of {numbers} numbers repeats {stored}")


def _load(reader: pickle.Unpickler) -> Any:
    """Unpickle what holds names and sizes, or a few megabytes; no such thing needs more memory than there is.

    Raises:
        ValueError: it says that it does.
    """
    try:
        return reader.load()
    except MemoryError:
        raise ValueError("it says that it is larger than the memory") from None


def read_arrays(path: Path) -> Any:
    """Read a pickle of NumPy arrays of numbers in plain containers, such as the weights of a network of jax's.

    Whatever else it names is refused before it is called, and so are arrays of objects.

    Raises:
        UserError: it names something else, or is no pickle, or is damaged.
    """
    import numpy as np

    def empty(*arguments: Any) -> NDArray[Any]:
        return np.empty(0, "b")  # the state that follows gives it its type, shape and numbers

    def numbers(kind: Any, *rest: Any) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(kind, *rest)
        if found.kind not in "biufc":
            raise pickle.UnpicklingError(f"arrays of {found}")
        return found

    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): numbers,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): empty for core in ("core", "_core")},
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in known:
                raise pickle.UnpicklingError(f"{module}.{name}")
            return known[module, name]

    with reading(path), path.open("rb") as file:
        try:
            return _load(Reader(file))
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} holds something else than arrays of numbers: {error}") from None
