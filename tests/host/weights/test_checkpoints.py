"""Where fetched checkpoints are kept, and whether they are as they were fetched."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from daps_kit.errors import UserError
from daps_kit.weights import checkpoints as store
from daps_kit.weights.fetch import fetch
from tests.host.weights.small_file import DATA, names


def test_the_cache_folder(monkeypatch, tmp_path):
    assert store.cache_folder() == tmp_path / "cache" / "checkpoints"
    monkeypatch.delenv("DAPS_KIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg" / "daps-kit" / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache_folder() == tmp_path / ".cache" / "daps-kit" / "checkpoints"


def test_fetches_records_and_checks(source, cache, site):
    steps = []
    with pytest.raises(UserError, match="run `daps-kit checkpoints fetch small`"):
        store.where("small")
    path = fetch("small", lambda done, total: steps.append((done, total)))
    assert path == cache / "small.ckpt" == store.where("small")
    assert path.read_bytes() == DATA
    assert steps[-1] == (len(DATA), len(DATA))
    assert names(cache) == ["small.ckpt", "small.json"]
    record = json.loads((cache / "small.json").read_text(encoding="utf-8"))
    assert record["files"]["small.ckpt"]["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert store.verify("small") is None
    assert fetch("small") == path
    assert site.asked == [None]


def test_a_file_that_changed_is_refused(source, cache):
    path = fetch("small")
    facts = path.stat()
    path.write_bytes(DATA[:-1])
    with pytest.raises(UserError, match=f"{len(DATA) - 1} bytes in place of {len(DATA)}"):
        store.where("small")
    path.write_bytes(DATA[:-1] + b"x")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    with pytest.raises(UserError, match="its SHA-256 is not"):
        store.where("small")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert "its SHA-256 is not" in store.verify("small")
    path.write_bytes(DATA)
    assert store.where("small") == path
    for text in ("{", "[]", '{"files": {"a": 1}}', '{"files": {"a": {}}}', "[" * 100_000):
        (cache / "small.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="record .* is damaged"):
            store.where("small")


def test_a_file_put_there_by_hand_is_recorded(source, cache):
    cache.mkdir(parents=True)
    (cache / "small.ckpt").write_bytes(b"mine")
    assert store.where("small") == cache / "small.ckpt"
    (cache / "small.ckpt").write_bytes(b"mine too")
    with pytest.raises(UserError, match="has changed"):
        store.where("small")


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match=r"no checkpoint 'ffhq256'; did you mean 'ffhq256\w+'\?"):
        store.where("ffhq256")
