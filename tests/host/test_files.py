"""Files are whole or not there; names are told apart and in the order of their numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.files import files_of, natural_key, remove_leftovers, stem_of, unique_names, write_atomic
from daps_kit.reading import PICTURE_SUFFIXES


def test_names():
    assert sorted(["b1", "a10", "a2", "A1"], key=natural_key) == ["A1", "a2", "a10", "b1"]
    assert unique_names(["a", "A", "a-2", "a", "b"]) == ["a", "A-2", "a-2-2", "a-3", "b"]
    strange = ["..", ".", "", "..x", "a/../b", "a\\b", "a\x1b\n\udcff", "é" * 200, "10.15\u202fPM"]
    safe = ["image", "image-2", "image-3", "x", "a_.._b", "a_b", "a___", "é" * 75, "10.15\u202fPM"]
    assert unique_names(strange) == safe


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


def test_folders_are_read_for_what_they_are_for(tmp_path):
    for name in ("img10.png", "img2.png", ".hidden.png", "._img2.png", "notes.txt", "Thumbs.db", "y.npy"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.png").mkdir()
    files, note = files_of(tmp_path, PICTURE_SUFFIXES)
    assert [file.name for file in files] == ["img2.png", "img10.png"]
    assert note == f"{tmp_path}: passed over 5 files (1 .db, 1 .npy, 1 .txt, 2 hidden)"
    assert files_of(tmp_path / "notes.txt", PICTURE_SUFFIXES) == ([tmp_path / "notes.txt"], "")


def test_links_that_lead_nowhere_are_counted(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to(tmp_path / "fetched-later.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    os.mkfifo(tmp_path / "d.png")
    files, note = files_of(tmp_path, PICTURE_SUFFIXES)
    assert [file.name for file in files] == ["a.png"]
    assert note == f"{tmp_path}: passed over 3 files (3 that lead to no file)"


def test_the_stem_of_a_name_is_the_same_from_every_system():
    assert stem_of(Path("a/scan.nii.gz")) == stem_of(Path("b/scan.PNG")) == "scan"
    assert stem_of(Path("img.v2.png")) == "img.v2"
    assert stem_of(Path("none")) == "none"
    assert stem_of(Path("caf\u00e9.npy")) == stem_of(Path("cafe\u0301.png")) == "caf\u00e9"


@pytest.mark.parametrize("name", ["dir[1]", "a*b", "what?", "[", "two [x] ([y])"])
def test_glob_characters_in_the_name_of_a_folder_are_text(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "dir1").mkdir()
    (tmp_path / "dir1" / "wrong.png").touch()
    (folder / "a.png").touch()
    for pattern in ("*.png", "a.png", "[ab].png", "**/*.png"):
        assert files_of(folder / pattern, PICTURE_SUFFIXES)[0] == [folder / "a.png"]
    assert files_of(folder, PICTURE_SUFFIXES)[0] == [folder / "a.png"]
