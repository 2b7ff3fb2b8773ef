"""A large file over HTTP, from a server that breaks connections, changes its mind, and answers with web pages."""

from __future__ import annotations

import errno
import io
import json
import types

import pytest

from daps_kit.errors import UserError
from daps_kit.sources import Source
from daps_kit.weights import checkpoints as store
from daps_kit.weights import download as downloading
from daps_kit.weights.fetch import fetch
from tests.host.weights.small_file import DATA, names, offer


def test_goes_on_where_the_connection_broke(source, cache, site):
    site.break_after = [700_000, 0, 300_000, 1]
    assert fetch("small").read_bytes() == DATA
    assert site.asked == [None, "bytes=700000-", "bytes=700000-", "bytes=1000000-", "bytes=1000001-"]


def test_goes_on_in_a_later_call(source, cache, site):
    site.break_after = [700_000] + [0] * downloading.ATTEMPTS
    with pytest.raises(UserError, match="700000 bytes that have arrived are kept: fetch again"):
        fetch("small")
    assert not (cache / "small.ckpt").exists()
    assert store.state("small") == "begun"
    with pytest.raises(UserError, match="is not there"):
        store.where("small")
    assert fetch("small").read_bytes() == DATA
    assert site.asked[-1] == "bytes=700000-"
    assert names(cache) == ["small.ckpt", "small.json"]


@pytest.mark.parametrize(
    "change", [{"etag": '"two"'}, {"ranges": False}, {"etag": None}, {"etag": 'W/"one"'}]
)
def test_starts_anew_where_it_cannot_go_on(source, cache, site, change):
    if "two" not in str(change):
        for name, value in change.items():
            setattr(site, name, value)
    site.break_after = [700_000] + [0] * downloading.ATTEMPTS
    with pytest.raises(UserError, match="cannot download"):
        fetch("small")
    site.data = DATA[::-1] + b"longer"
    for name, value in change.items():
        setattr(site, name, value)
    assert fetch("small").read_bytes() == site.data


def test_a_file_that_became_shorter_is_fetched_anew(source, cache, site):
    site.break_after = [700_000] + [0] * downloading.ATTEMPTS
    with pytest.raises(UserError):
        fetch("small")
    site.data = DATA[:5000]
    assert fetch("small").read_bytes() == DATA[:5000]


def test_a_complete_part_is_not_fetched_again(source, cache, site):
    cache.mkdir(parents=True)
    (cache / "small.ckpt.part").write_bytes(DATA)
    note = {"url": site.url, "version": '"one"', "total": len(DATA)}
    (cache / "small.ckpt.part.json").write_text(json.dumps(note), encoding="utf-8")
    assert fetch("small").read_bytes() == DATA
    assert site.asked == []


def test_without_a_length_the_end_is_the_end(source, site):
    site.length = False
    assert fetch("small").read_bytes() == DATA


def test_a_server_in_trouble_is_asked_again_but_not_for_what_is_not_there(source, cache, site):
    site.status = [503, 429]
    assert fetch("small").read_bytes() == DATA
    (cache / "small.ckpt").unlink()
    for code in (403, 404):
        site.status, site.asked = [code], []
        with pytest.raises(UserError, match=f"answers {code}"):
            fetch("small")
        assert site.asked == [None]


@pytest.mark.parametrize("honest", [True, False])
def test_a_web_page_in_place_of_the_file(source, cache, site, honest, monkeypatch):
    if honest:
        site.page = True
    else:
        site.data = b"\n<html><body>Quota exceeded</body></html>"
    with pytest.raises(UserError, match="a web page in place of the file"):
        fetch("small")
    assert "small.ckpt" not in names(cache)
    site.page, site.data = False, DATA
    assert fetch("small").read_bytes() == DATA


def test_no_network(monkeypatch, cache):
    gone = Source("gone", "gone.pt", "http", "http://127.0.0.1:9/gone.pt", "")
    offer(monkeypatch, gone)
    with pytest.raises(UserError, match=r"cannot download http://127\.0\.0\.1:9/gone\.pt: .*refused"):
        fetch("gone")


def test_a_full_disk_keeps_what_has_arrived(source, cache, site, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(downloading.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"disk of .* is full"):
            fetch("small")
    real = downloading.Path.open

    class Full(io.BufferedWriter):
        def write(self, block):
            super().write(block[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *arguments, **keywords):
        if path.suffix == ".part" and mode in ("ab", "wb"):
            return Full(io.FileIO(path, mode[0]))
        return real(path, mode, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(downloading.Path, "open", opened)
        with pytest.raises(UserError, match=r"disk of .* is full; what has arrived is kept"):
            fetch("small")
    assert fetch("small").read_bytes() == DATA
    assert site.asked[-1] == "bytes=1000-"
