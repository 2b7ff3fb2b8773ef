"""Hashes of files and folders, and of large files once."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from daps_kit import fingerprint as module
from daps_kit.errors import UserError
from daps_kit.fingerprint import cache_root, fingerprint, fingerprints


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))


def test_a_file_and_a_folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"one")
    (folder / "deep" / "b.bin").write_bytes(b"two")
    assert fingerprint(folder / "a.bin") == hashlib.sha256(b"one").hexdigest()
    first = fingerprint(folder)
    (folder / "deep" / "b.bin").write_bytes(b"six")
    assert fingerprint(folder) != first
    (folder / "deep" / "b.bin").write_bytes(b"two")
    assert fingerprint(folder) == first
    (folder / "deep" / "b.bin").rename(folder / "deep" / "c.bin")
    assert fingerprint(folder) != first
    with pytest.raises(UserError, match=r"gone\.bin"):
        fingerprint(folder / "gone.bin")


def test_a_large_file_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 8)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"0123456789")
    first = fingerprint(path)
    assert first == hashlib.sha256(b"0123456789").hexdigest()
    facts = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert fingerprint(path) == first  # not read again: size, time and inode are what they were
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert fingerprint(path) == hashlib.sha256(b"9876543210").hexdigest()
    moved = tmp_path / "other.bin"
    moved.write_bytes(b"abcdefghij")
    os.utime(moved, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    moved.replace(path)  # another inode, of the same size and time
    assert fingerprint(path) == hashlib.sha256(b"abcdefghij").hexdigest()
    kept = json.loads((cache_root() / "hashes.json").read_text())
    assert list(kept) == [str(path.resolve())]


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"x": 1}', "[" * 100_000])
def test_a_damaged_cache_is_none(tmp_path, monkeypatch, content):
    monkeypatch.setattr(module, "LARGE", 8)
    cache_root().mkdir()
    (cache_root() / "hashes.json").write_text(content)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"0123456789")
    assert fingerprint(path) == fingerprint(path) == hashlib.sha256(b"0123456789").hexdigest()


def test_a_cache_folder_that_cannot_be(monkeypatch):
    for variable in ("DAPS_KIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv("DAPS_KIT_CACHE", raising=False)
        monkeypatch.setenv(variable, "~nobody-at-all/cache")
        with pytest.raises(UserError, match="the cache folder ~nobody-at-all/cache cannot be used"):
            cache_root()


def test_many_files_that_are_large_together_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 20)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"0123456789")
    first = fingerprints(paths)
    assert first == dict.fromkeys(map(str, paths), hashlib.sha256(b"0123456789").hexdigest())
    facts = paths[0].stat()
    for path in paths:
        path.write_bytes(b"9876543210")
    os.utime(paths[0], ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as if it had not changed
    os.utime(paths[1], ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))
    assert fingerprints(paths)[str(paths[0])] == first[str(paths[0])]
    assert fingerprints(paths)[str(paths[1])] == hashlib.sha256(b"9876543210").hexdigest()
    assert fingerprints(paths[:1])[str(paths[0])] == hashlib.sha256(b"9876543210").hexdigest()  # small alone
