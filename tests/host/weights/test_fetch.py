"""Checkpoints from Google Drive, from the hub and out of archives."""

from __future__ import annotations

import errno
import hashlib
import io
import sys
import types
import zipfile
from dataclasses import replace

import pytest
from click.testing import CliRunner
from filelock import FileLock

from daps_kit.command.checkpoints import command
from daps_kit.errors import UserError
from daps_kit.weights import checkpoints as store
from daps_kit.weights.fetch import fetch
from tests.host.weights.small_file import DATA, names, offer


def test_a_wrong_hash_is_never_used(source, cache, monkeypatch):
    right = hashlib.sha256(DATA).hexdigest()
    offer(monkeypatch, replace(source, sha256="0" * 64))
    with pytest.raises(UserError, match=f"wrong hash: {right} in place of 0000"):
        fetch("small")
    assert names(cache) == []
    offer(monkeypatch, replace(source, sha256=right))
    assert fetch("small").read_bytes() == DATA


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


def test_what_a_plugin_offers_has_a_folder_of_its_own(source, cache, site, monkeypatch):
    offer(monkeypatch, replace(source, distribution="Daps_Mine"))
    with pytest.raises(UserError, match=r"several plugins .*: write daps-kit/small or Daps_Mine/small"):
        fetch("small")
    listed = [
        line.split()[0]
        for line in CliRunner().invoke(command, ["list"]).output.splitlines()
        if "small" in line
    ]
    assert listed == ["daps-kit/small", "Daps_Mine/small"]
    assert fetch("daps-mine/small") == cache / "daps-mine" / "small.ckpt"
    assert names(cache / "daps-mine") == ["small.ckpt", "small.json"]
    assert store.verify("daps-mine/small") is None
    assert [store.state(name) for name in listed] == ["absent", "fetched"]
    assert fetch("daps-kit/small") == cache / "small.ckpt"
