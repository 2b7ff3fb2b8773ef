"""Files are whole or not there; names are told apart and in the order of their numbers."""

from __future__ import annotations

import pytest

from daps_kit.errors import UserError
from daps_kit.files import natural_key, remove_leftovers, unique_names, write_atomic


def test_names():
    assert sorted(["b1", "a10", "a2", "A1"], key=natural_key) == ["A1", "a2", "a10", "b1"]
    assert unique_names(["a", "A", "a-2", "a", "b"]) == ["a", "A-2", "a-2-2", "a-3", "b"]


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "x.bin"
    write_atomic(path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daps_kit.files.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    (path.parent / ".x.bin.7.tmp").write_bytes(b"")
    remove_leftovers(tmp_path)
    assert list(path.parent.iterdir()) == [path]
