"""Tensors and what is known of them in one .safetensors file, which is whole whenever the program is killed.

What is known is a JSON object in the file's metadata, under `daps-kit`. It comes from a file, so it is checked as a
whole by a `Description` before any of it is used. A checksum in the metadata, under `daps-kit-crc32`, is compared
whenever the file is read: a file that was changed after it was written is a damaged one.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.reading import reading, require_safetensors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DamagedFile",
    "Description",
    "pack",
    "plain_bytes",
    "previous",
    "read",
    "read_outline",
    "read_plain",
    "unpack",
    "write",
    "write_plain",
]

KEY = "daps-kit"
"""Where the description is."""
OLD_KEY = "daps_kit"
"""Where calibrations of earlier versions have it."""
CHECKSUM = "daps-kit-crc32"
"""Where the checksum is: CRC-32 of the header without it, its keys in order, and of all numbers."""


class DamagedFile(UserError):
    """The file is not whole, or not one of ours."""


class Description(BaseModel):
    """What a file says of its tensors: of one kind, in one format, with whatever else a subclass asks for.

    Attributes:
        WHAT: such a file holds, for error messages.
        KIND: the value of `kind`; None where files of this kind do not say it.
        FORMAT: the value of `format`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    WHAT: ClassVar[str]
    KIND: ClassVar[str | None] = None
    FORMAT: ClassVar[int] = 1

    @classmethod
    def of(cls, found: Mapping[str, Any], path: Path) -> Self:
        """Return the description that was found in a file.

        Raises:
            DamagedFile: it is of another kind or format, or something in it is missing or impossible.
        """
        if cls.KIND is not None and found.get("kind") != cls.KIND:
            raise DamagedFile(f"{path} holds a {found.get('kind', 'thing of unknown kind')}, not {cls.WHAT}")
        if found.get("format") != cls.FORMAT:
            raise DamagedFile(
                f"{path} has format {found.get('format')}; this version of daps-kit reads {cls.FORMAT}"
            )
        try:
            return cls.model_validate(dict(found))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedFile(
                f"{path} is damaged: what it says of {cls.WHAT} does not hold ({where}: {first['msg']})"
            ) from error


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    description: Mapping[str, Any],
    *,
    keep_previous: bool = False,
) -> None:
    """Write tensors with a JSON description. With `keep_previous` the file before stays as `NAME.previous`.

    Raises:
        UserError: the disk refuses (full, read-only); what was at `path` before is untouched.
    """
    metadata = {KEY: json.dumps(description)}
    if not (keep_previous and path.exists()):
        write_plain(path, tensors, metadata)
        return
    # The new file is whole on the disk before the old one is moved: at every moment one of the two can be read.
    new = path.with_name(f".{path.name}.new.tmp")
    write_plain(new, tensors, metadata)
    path.replace(previous(path))
    new.replace(path)


def write_plain(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, wherever they are and even if they share memory, with metadata of any kind.

    Raises:
        UserError: see `write`.
    """
    write_atomic(path, plain_bytes(tensors, metadata))


def plain_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of the file that `write_plain` writes."""
    return _with_checksum(_saved(tensors, metadata))


def _saved(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    storages = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if len(storages) < len(tensors):
        plain = {name: tensor.clone() for name, tensor in plain.items()}
    return save(plain, dict(metadata) if metadata else None)


def pack(tensors: Mapping[str, Tensor], description: Any) -> bytes:
    """Return tensors with what JSON can say of them as bytes, for another process."""
    return _saved(tensors, {KEY: json.dumps(description)})


def unpack(data: bytes) -> tuple[dict[str, Tensor], Any]:
    """Return what was given to `pack`, the tensors on the CPU."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load(data), json.loads(header["__metadata__"][KEY])


def _with_checksum(data: bytes) -> bytes:
    """Return a .safetensors file with its checksum, and its metadata in one order."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    checksum = zlib.crc32(numbers, _checksum_of_header(header))
    header["__metadata__"][CHECKSUM] = f"{checksum:08x}"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, numbers))


def _checksum_of_header(header: Mapping[str, Any]) -> int:
    metadata = {key: text for key, text in header["__metadata__"].items() if key != CHECKSUM}
    return zlib.crc32(json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode())


def _require_checksum(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse a file whose checksum, where it has one, is not that of its content."""
    said = (header.get("__metadata__") or {}).get(CHECKSUM)
    if said is None:
        return
    found = _checksum_of_header(header)
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    if said != f"{found:08x}":
        raise UserError("it was changed after it was written: its checksum is another")


def previous(path: Path) -> Path:
    """Return where `write` keeps the file before the last."""
    return path.with_name(f"{path.name}.previous")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and description of a file that `write` made; `Description.of` checks the latter.

    Raises:
        UserError: there is no such file.
        DamagedFile: it is damaged, or was written by something else.
    """
    tensors, metadata = read_plain(path)
    try:
        description = json.loads(metadata[KEY] if KEY in metadata else metadata[OLD_KEY])
    except (KeyError, ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise DamagedFile(f"{path} was not written by daps-kit: no description `{KEY}` in its metadata")
    return tensors, description


def read_plain(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of any .safetensors file on the CPU, and its metadata.

    Raises:
        UserError: there is no such file.
        DamagedFile: it is damaged or of another kind.
    """
    if not path.exists():
        raise UserError(f"no such file: {path}")
    with _whole(path):
        _require_checksum(path, require_safetensors(path))
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
            return tensors, {key: text for key, text in metadata.items() if key != CHECKSUM}


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Make a `DamagedFile` of whatever goes wrong with a file within."""
    try:
        with reading(path, logs=False):
            yield
    except UserError as error:
        reason = str(error).removeprefix(f"cannot read {path}: ")
        raise DamagedFile(f"{path} is not a whole .safetensors file: {reason}") from error


_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_outline(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what `read_plain` does without looking at the numbers: the tensors have types and shapes alone.

    They are on the device `meta`. The file is as long as it says; what it holds is known once it is read.

    Raises:
        DamagedFile: it is missing, cut short, or of another kind.
    """
    with _whole(path):
        header = require_safetensors(path)
        metadata = header.pop("__metadata__", {})
        ends = [entry["data_offsets"][1] for entry in header.values()]
        with path.open("rb") as file:
            whole = 8 + int.from_bytes(file.read(8), "little") + max(ends, default=0)
        if path.stat().st_size != whole:
            raise UserError("it is not as long as it says")
        tensors = {
            name: torch.empty(entry["shape"], dtype=_TYPES[entry["dtype"]], device="meta")
            for name, entry in header.items()
        }
        return tensors, {key: text for key, text in metadata.items() if key != CHECKSUM}
