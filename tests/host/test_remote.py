"""Files that lie elsewhere: in memory, on a disk, and in an S3 that runs here."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import daps_kit
from daps_kit.errors import RecipeError, UserError
from daps_kit.fingerprint import cache_root
from daps_kit.recipe import load_recipe
from daps_kit.remote import fetch, mirror, put, remove, url_of

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").store.clear()


def run_elsewhere(toy, base: str, system) -> None:
    """Run from images and into a folder that lie elsewhere, lose the mirror and some samples, and go on."""
    here = daps_kit.run(toy(), quiet=True)
    for photo in Path(toy()).parent.glob("photos/*.png"):
        system.pipe_file(f"{base}/photos/{photo.name}", photo.read_bytes())
    data = {"use": "images", "path": f"{base}/photos/*.png", "size": 16}
    recipe = toy("there", data=data, output=f"{base}/out")
    there = daps_kit.run(recipe, quiet=True)
    assert (there.samples == here.samples).all()
    written = {name.partition("/out/")[2] for name in system.find(f"{base}/out")}
    files = {str(path.relative_to(here.path)) for path in here.path.rglob("*") if path.is_file()}
    assert written == files - {".lock"}
    whole = {name: system.cat_file(name) for name in system.find(f"{base}/out") if "/samples/" in name}

    shutil.rmtree(cache_root())
    (lost, *_) = (name for name in whole if name.endswith(".safetensors"))
    for name in (lost, next(name for name in system.find(f"{base}/out") if name.endswith("metrics.json"))):
        system.rm_file(name)
    again = daps_kit.run(recipe, quiet=True)
    assert {name: system.cat_file(name) for name in whole} == whole
    assert again.metrics == there.metrics
    shutil.rmtree(cache_root())
    assert (daps_kit.open(f"{base}/out").samples == here.samples).all()
    resolved = system.cat_file(
        next(name for name in system.find(f"{base}/out") if name.endswith("recipe.yaml"))
    )
    assert f"{base}/photos/*.png".encode() in resolved
    assert f"output: {base}/out".encode() in resolved


def test_a_run_in_memory(toy) -> None:
    run_elsewhere(toy, "memory://bucket", fsspec.filesystem("memory"))


def test_mirrors_and_urls(tmp_path) -> None:
    for url in ("s3://bucket/a/b.png", "hf://datasets/a/b", "memory://x", "file:///tmp/x"):
        path = mirror(url)
        assert path is not None
        assert url_of(path) == url
    assert mirror("a/b") is mirror("s3://") is url_of(tmp_path) is None
    with pytest.raises(ValueError, match="have no meaning in a URL"):
        mirror("s3://bucket/../../../home")


def test_files_are_brought_when_they_changed(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    url = f"file://{tmp_path}/there"
    path = mirror(f"{url}/a.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")
    put(path)
    assert (tmp_path / "there/a.txt").read_bytes() == b"one"
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["a.txt"]
    (tmp_path / "there/a.txt").write_bytes(b"two!")
    (tmp_path / "there/b.txt").write_bytes(b"b")
    fetch(mirror(url))
    assert path.read_bytes() == b"two!"
    path.write_bytes(b"mine")
    fetch(mirror(f"{url}/*.txt"))
    assert path.read_bytes() == b"mine", "it has not changed there, and is not read again"
    remove(path)
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["b.txt"]
    fetch(tmp_path)  # no mirror: nothing is done


def test_what_cannot_be_is_a_line(toy, monkeypatch) -> None:
    def wrong(message: str, **sections) -> None:
        with pytest.raises(RecipeError, match=message):
            load_recipe(toy(**sections))

    wrong(
        r"no image matches memory://nowhere/\*.png", data={"use": "images", "path": "memory://nowhere/*.png"}
    )
    wrong("odd://bucket: .*[Pp]rotocol", data={"use": "images", "path": "odd://bucket"})
    wrong("Python is executed from files of this machine alone", plugins="memory://bucket/mine.py")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    wrong(
        r"a URL needs fsspec: pip install 'daps-kit\[remote\]'",
        data={"use": "images", "path": "s3://b/x.png"},
    )
    with pytest.raises(UserError, match="needs fsspec"):
        daps_kit.open("s3://bucket/out")


@pytest.mark.slow
def test_a_run_in_s3(toy, monkeypatch) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        run_elsewhere(toy, "s3://bucket", system)
    finally:
        server.kill()
        server.wait()
