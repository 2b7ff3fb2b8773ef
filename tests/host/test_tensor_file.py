"""Tensors with a description in one file: read back, kept whole, and refused where they are not ours."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file

from daps_kit import files, tensor_file
from daps_kit.errors import UserError
from daps_kit.tensor_file import DamagedFile, Description


class Curve(Description):
    """What a file says of a curve."""

    WHAT: ClassVar[str] = "a curve"
    KIND: ClassVar[str | None] = "curve"
    FORMAT: ClassVar[int] = 2
    points: int = Field(ge=1)


def test_tensors_and_description_are_read_back_even_if_they_share_memory(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"row": whole[1], "column": whole[:, 2], "whole": whole, "words": torch.tensor([1, 2])}
    tensor_file.write(tmp_path / "a.safetensors", tensors, {"kind": "curve", "n": [1, None]})
    found, description = tensor_file.read(tmp_path / "a.safetensors")
    assert description == {"kind": "curve", "n": [1, None]}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["daps-kit"]) == description


def test_the_file_before_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for step in range(3):
        tensor_file.write(path, {"x": torch.tensor([step])}, {"step": step}, keep_previous=True)
    assert tensor_file.read(path)[1] == {"step": 2}
    assert tensor_file.read(tensor_file.previous(path))[1] == {"step": 1}
    tensor_file.write(path, {"x": torch.tensor([3])}, {"step": 3})
    assert tensor_file.read(tensor_file.previous(path))[1] == {"step": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.safetensors", "a.safetensors.previous"]


def test_a_full_disk_leaves_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    for step in range(2):
        tensor_file.write(path, {"x": torch.tensor([step])}, {"step": step}, keep_previous=True)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        tensor_file.write(path, {"x": torch.tensor([2])}, {"step": 2}, keep_previous=True)
    assert tensor_file.read(path)[1] == {"step": 1}
    assert tensor_file.read(tensor_file.previous(path))[1] == {"step": 0}


def test_what_is_not_whole_or_not_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="^no such file: .*a.safetensors$") as missing:
        tensor_file.read(path)
    assert not isinstance(missing.value, DamagedFile)
    tensor_file.write(path, {"x": torch.zeros(100)}, {"kind": "curve"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=r"a.safetensors is not a whole .safetensors file: ") as damaged:
        tensor_file.read(path)
    assert "\n" not in str(damaged.value)
    for metadata in (None, {"other": "x"}, {"daps-kit": "{"}, {"daps-kit": "[1]"}, {"daps-kit": "[" * 10**5}):
        save_file({"x": torch.zeros(1)}, path, metadata)
        with pytest.raises(DamagedFile, match="was not written by daps-kit"):
            tensor_file.read(path)
        assert tensor_file.read_plain(path)[1] == (metadata or {})
    save_file({"x": torch.zeros(1)}, path, {"daps_kit": '{"kind": "old"}'})
    assert tensor_file.read(path)[1] == {"kind": "old"}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"kind": "plan", "format": 2, "points": 3}, "a.st holds a plan, not a curve"),
        ({"format": 2, "points": 3}, "a.st holds a thing of unknown kind, not a curve"),
        ({"kind": "curve", "format": 1, "points": 3}, "a.st has format 1; this version of daps-kit reads 2"),
        ({"kind": "curve", "format": 2}, "what it says of a curve does not hold (points: Field required)"),
        ({"kind": "curve", "format": 2, "points": 0}, "(points: Input should be greater than or equal to 1)"),
    ],
)
def test_a_description_is_checked_as_a_whole(found: dict[str, object], message: str) -> None:
    with pytest.raises(DamagedFile) as caught:
        Curve.of(found, Path("a.st"))
    assert message in str(caught.value)
    assert Curve.of({"kind": "curve", "format": 2, "points": 3, "more": 1}, Path("a.st")) == Curve(points=3)


def test_a_file_that_was_changed_after_it_was_written_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"x": torch.arange(6.0), "n": torch.tensor([3, 4])}
    tensor_file.write(path, tensors, {"kind": "curve", "words": "caf\u00e9"})
    whole = path.read_bytes()
    with safe_open(path, "pt") as file:
        assert file.get_tensor("x").tolist() == [0, 1, 2, 3, 4, 5]
        assert re.fullmatch("[0-9a-f]{8}", file.metadata()["daps-kit-crc32"])
    for place in (len(whole) - 1, len(whole) - 30, whole.index(b"curve"), whole.index(b"F32")):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedFile, match="a.safetensors is not a whole .safetensors file"):
            tensor_file.read(path)
    path.write_bytes(whole)
    assert tensor_file.read(path)[1] == {"kind": "curve", "words": "caf\u00e9"}


def test_the_same_content_is_the_same_file_whatever_its_metadata(tmp_path: Path) -> None:
    metadata = {f"key-{i}": str(i) for i in range(9)}
    for name in ("a", "b", "c"):
        tensor_file.write_plain(tmp_path / name, {"x": torch.ones(2)}, metadata)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a", "b", "c"))
    assert a == b == c
    assert tensor_file.read_plain(tmp_path / "a")[1] == metadata


def test_a_file_of_another_program_needs_no_checksum(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors", {"format": "pt"})
    assert tensor_file.read_plain(tmp_path / "a.safetensors")[1] == {"format": "pt"}


def test_the_outline_of_a_file_is_read_without_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"x": torch.rand(2, 3), "half": torch.rand(4).bfloat16(), "mask": torch.tensor([True])}
    tensor_file.write_plain(path, tensors, {"said": "this"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a number that changed is seen when it is read
    outline, metadata = tensor_file.read_outline(path)
    assert metadata == {"said": "this"}
    assert {key: (x.shape, x.dtype) for key, x in outline.items()} == {
        key: (x.shape, x.dtype) for key, x in tensors.items()
    }
    with pytest.raises(DamagedFile, match="checksum"):
        tensor_file.read_plain(path)
    for content in (whole[:-1], whole + b"x", whole[:9], b"", b"{" * 100):
        path.write_bytes(content)
        with pytest.raises(DamagedFile):
            tensor_file.read_outline(path)
    with pytest.raises(DamagedFile):
        tensor_file.read_outline(tmp_path / "gone.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")  # which would be waited for
    with pytest.raises(DamagedFile, match="it is no regular file"):
        tensor_file.read_outline(tmp_path / "pipe.safetensors")
