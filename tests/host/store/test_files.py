"""A file for each record, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daps_kit.store import Key, open_store
from daps_kit.store.files import FileStore
from daps_kit.tensor_file import DamagedFile


@pytest.mark.parametrize(
    ("key", "file"),
    [
        (Key("operator", "3x4x4"), "operator/3x4x4.safetensors"),
        (Key("measurement", "a"), "measurement/a.safetensors"),
        (Key("sample", "a", 0), "samples/a/sample-01.safetensors"),
        (Key("sample", "a", 99), "samples/a/sample-100.safetensors"),
        (Key("trajectory", "a", 9), "samples/a/sample-10-trajectory.safetensors"),
        (Key("posterior", "a"), "samples/a/posterior.safetensors"),
    ],
)
def test_names_and_back(tmp_path: Path, key: Key, file: str) -> None:
    store = open_store(tmp_path)
    assert isinstance(store, FileStore)
    assert store.where(key) == tmp_path / file
    store.write(key, {"x": torch.ones(3)}, {})
    (tmp_path / file).with_name("something else.safetensors.txt").touch()
    assert list(store.keys()) == [key]
    content = bytearray((tmp_path / file).read_bytes())
    content[-1] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DamagedFile, match="its checksum is another"):
        store.read(key)
    store.remove(key)
    assert store.read(key) is None
    assert list(store.keys()) == []


def test_empty_folders_go_with_the_last_record(tmp_path: Path) -> None:
    store = FileStore(
        tmp_path,
        lambda path, data: (path.parent.mkdir(parents=True, exist_ok=True), path.write_bytes(data))[0],
    )
    for run in (0, 1):
        store.write(Key("sample", "a", run), {"x0": torch.ones(3)}, {})
    store.remove(Key("sample", "a", 0))
    assert list(store.keys()) == [Key("sample", "a", 1)]
    store.remove(Key("sample", "a", 1))
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.is_dir()
