"""Fetching checkpoints from a local server that breaks connections, changes its mind, and answers with web pages."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import json
import os
import sys
import threading
import types
import zipfile
from dataclasses import dataclass, field, replace

import pytest
from click.testing import CliRunner
from filelock import FileLock

from daps_kit.command.checkpoints import command
from daps_kit.errors import UserError
from daps_kit.registry import default_registry
from daps_kit.sources import Source
from daps_kit.weights import checkpoints as store
from daps_kit.weights import download as downloading
from daps_kit.weights.fetch import fetch

DATA = bytes(range(256)) * 8192  # 2 MiB


@dataclass
class Site:
    """What the server does, and what it was asked."""

    data: bytes = DATA
    etag: str | None = '"one"'
    break_after: list[int] = field(
        default_factory=list
    )  # bytes of each coming answer before the connection breaks
    status: list[int] = field(default_factory=list)  # of each coming answer that fails
    ranges: bool = True
    page: bool = False
    length: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site():
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            if site.status:
                self.send_error(site.status.pop(0))
                return
            start, code = 0, 200
            if wanted and site.ranges and self.headers.get("If-Range") == site.etag:
                start, code = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
                if start >= len(site.data):
                    self.send_error(416)
                    return
            body = b"<!DOCTYPE html><html>Too many users" if site.page else site.data[start:]
            self.send_response(code)
            self.send_header("Content-Type", "text/html" if site.page else "application/octet-stream")
            if site.length:
                self.send_header("Content-Length", str(len(body)))
            if code == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(site.data) - 1}/{len(site.data)}")
            if site.etag:
                self.send_header("ETag", site.etag)
            self.end_headers()
            self.wfile.write(body[: site.break_after.pop(0)] if site.break_after else body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/model.ckpt"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    return tmp_path / "cache" / "checkpoints"


def offer(monkeypatch, source):
    """Let a plugin offer a checkpoint, in place of one of the same name."""
    others = [each for each in default_registry().sources if each.qualified != source.qualified]
    monkeypatch.setattr(default_registry(), "sources", [*others, source])


@pytest.fixture
def source(site, monkeypatch):
    made = Source("small", "small.ckpt", "http", site.url, "a small one", distribution="daps-kit")
    offer(monkeypatch, made)
    return made


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def run(*arguments):
    return CliRunner().invoke(command, list(arguments))


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


def test_a_wrong_hash_is_never_used(source, cache, monkeypatch):
    right = hashlib.sha256(DATA).hexdigest()
    offer(monkeypatch, replace(source, sha256="0" * 64))
    with pytest.raises(UserError, match=f"wrong hash: {right} in place of 0000"):
        fetch("small")
    assert names(cache) == []
    offer(monkeypatch, replace(source, sha256=right))
    assert fetch("small").read_bytes() == DATA


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
    (cache / "small.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="record .* is damaged"):
        store.where("small")


def test_a_file_put_there_by_hand_is_recorded(source, cache):
    cache.mkdir(parents=True)
    (cache / "small.ckpt").write_bytes(b"mine")
    assert store.where("small") == cache / "small.ckpt"
    (cache / "small.ckpt").write_bytes(b"mine too")
    with pytest.raises(UserError, match="has changed"):
        store.where("small")


@pytest.mark.parametrize("folder", ["", "ffhq256/"])
def test_a_member_of_an_archive(source, cache, site, monkeypatch, folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr(f"{folder}model.ckpt", DATA)
    site.data = buffer.getvalue()
    offer(monkeypatch, replace(source, member="model.ckpt"))
    site.break_after = [100_000]
    assert fetch("small").read_bytes() == DATA
    assert names(cache) == ["small.ckpt", "small.json"]


def test_archives_that_are_damaged_or_lack_the_member(source, cache, site, monkeypatch):
    offer(monkeypatch, replace(source, member="model.ckpt"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.ckpt", b"1")
    site.data = buffer.getvalue()
    with pytest.raises(UserError, match=r"has no model\.ckpt; it has other\.ckpt"):
        fetch("small")
    (cache / "small.ckpt.zip.part").unlink()
    site.data = b"PK not really" * 100
    with pytest.raises(UserError, match="damaged"):
        fetch("small")
    assert names(cache) == []


def test_one_process_at_a_time(source, cache):
    cache.mkdir(parents=True)
    with FileLock(cache / ".small.ckpt.lock"), pytest.raises(UserError, match="another process is fetching"):
        fetch("small")
    assert fetch("small").read_bytes() == DATA


def test_google_drive_goes_through_gdown(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(
        UserError, match=r"needs gdown: pip install 'daps-kit\[checkpoints\]'; or download https://drive"
    ):
        fetch("ffhq256ddpm")
    quota = type("FileURLRetrievalError", (Exception,), {"__module__": "gdown.exceptions"})
    calls = []

    def gdown_download(**arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise quota("Too many users have viewed or downloaded this file recently")
        if len(calls) == 2:
            raise quota("Download failed after 5 retries") from ConnectionError("no route")
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        with open(arguments["output"], "wb") as file:
            file.write(b"<!DOCTYPE html><html>" if len(calls) == 4 else DATA)

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=gdown_download))
    with pytest.raises(UserError, match="does not give the file out.*Too many users"):
        fetch("ffhq256ddpm")
    with pytest.raises(UserError, match="cannot reach Google Drive: no route"):
        fetch("ffhq256ddpm")
    with pytest.raises(UserError, match=r"disk of .* is full"):
        fetch("ffhq256ddpm")
    with pytest.raises(UserError, match="web page"):
        fetch("ffhq256ddpm")
    assert fetch("ffhq256ddpm").read_bytes() == DATA
    assert calls[0]["id"] == "1BGwhRWUoguF-D8wlZ65tf227gp3cDUDh"
    assert calls[0]["resume"] is True
    assert names(cache) == ["ffhq256.pt", "ffhq256ddpm.json"]


def test_repositories_of_the_hub(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs huggingface_hub"):
        fetch("stable-diffusion-v1.5")
    refused = type("HfHubHTTPError", (OSError,), {})
    calls = []

    def snapshot_download(repository, *, local_dir, allow_patterns, ignore_patterns):
        calls.append(repository)
        if len(calls) == 1:
            raise refused("401 Client Error")
        if len(calls) == 2:
            raise ConnectionError("no route")
        (local_dir / "unet").mkdir(parents=True)
        (local_dir / ".cache").mkdir()
        (local_dir / "unet" / "model.safetensors").write_bytes(DATA)
        (local_dir / "model_index.json").write_text("{}", encoding="utf-8")

    monkeypatch.setitem(
        sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download)
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", types.SimpleNamespace(HfHubHTTPError=refused))
    with pytest.raises(UserError, match="the hub refuses .*401"):
        fetch("stable-diffusion-v1.5")
    with pytest.raises(UserError, match="cannot reach the Hugging Face hub"):
        fetch("stable-diffusion-v1.5")
    folder = fetch("stable-diffusion-v1.5")
    assert names(folder) == ["model_index.json", "unet"]
    assert store.verify("stable-diffusion-v1.5") is None
    (folder / "unet" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="has changed"):
        store.where("stable-diffusion-v1.5")


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match=r"no checkpoint 'ffhq256'; did you mean 'ffhq256\w+'\?"):
        store.where("ffhq256")


def test_on_the_command_line(source, cache, tmp_path):
    assert run("verify").output == "no checkpoints have been fetched\n"
    result = run("fetch", "small")
    assert result.output == f"small: {cache / 'small.ckpt'}\n"
    assert run("where", "small").output == f"{cache / 'small.ckpt'}\n"
    listed = run("list").output
    assert f"kept in {cache}" in listed
    for name in (each.name for each in default_registry().sources):
        assert any(line.split()[0] == name for line in listed.splitlines() if line)
    assert [line.split()[1] for line in listed.splitlines() if line.startswith(("small", "bkse"))] == [
        "absent",
        "fetched",
    ]
    assert run("verify").output == "small: as it was fetched\n"
    (cache / "small.ckpt").write_bytes(b"")
    result = run("verify", "small")
    assert isinstance(result.exception, UserError)
    assert "small: " in result.output
    assert isinstance(run("fetch", "small", "smal").exception, UserError)
    assert isinstance(
        run("convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors")).exception, UserError
    )


def test_what_a_plugin_offers_has_a_folder_of_its_own(source, cache, site, monkeypatch):
    offer(monkeypatch, replace(source, distribution="Daps_Mine"))
    with pytest.raises(UserError, match=r"several plugins .*: write daps-kit/small or Daps_Mine/small"):
        fetch("small")
    listed = [line.split()[0] for line in run("list").output.splitlines() if "small" in line]
    assert listed == ["daps-kit/small", "Daps_Mine/small"]
    assert fetch("daps-mine/small") == cache / "daps-mine" / "small.ckpt"
    assert names(cache / "daps-mine") == ["small.ckpt", "small.json"]
    assert store.verify("daps-mine/small") is None
    assert [store.state(name) for name in listed] == ["absent", "fetched"]
    assert fetch("daps-kit/small") == cache / "small.ckpt"


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"file": "../small.ckpt"}, {"file": ""}, {"kind": "ftp"}])
def test_a_source_that_cannot_be(wrong):
    right = {"name": "small", "file": "small.ckpt", "kind": "http", "location": "http://a/b", "about": ""}
    with pytest.raises(ValueError, match="checkpoint"):
        Source(**{**right, **wrong})
