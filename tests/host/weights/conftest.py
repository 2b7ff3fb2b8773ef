"""A local server that gives out a file, and a cache to fetch it to."""

from __future__ import annotations

import http.server
import sys
import threading
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from daps_kit.sources import Source
from daps_kit.weights import download as downloading
from tests.host.weights.small_file import Site, offer


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


@pytest.fixture
def source(site, monkeypatch):
    made = Source("small", "small.ckpt", "http", site.url, "a small one", distribution="daps-kit")
    offer(monkeypatch, made)
    return made


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def lightning():
    """A content as old training frameworks wrote it: objects of classes that the reader does not have."""
    module = types.ModuleType("old_framework")
    sys.modules["old_framework"] = module
    for name, base in (("Callback", object), ("Attributes", dict), ("Items", list), ("Names", set)):
        setattr(module, name, type(name, (base,), {"__module__": module.__name__}))
    callback = module.Callback()
    callback.best, callback.path = torch.ones(2), Path("/somewhere")
    attributes = module.Attributes(rate=1e-3, nested=module.Attributes(a=1))
    objects = {
        "callbacks": {module.Callback: callback},
        "hyper_parameters": attributes,
        "epoch": 3,
        "more": module.Items([1, 2]),
        "names": module.Names({"a"}),
        "ordered": OrderedDict(a=callback),
    }
    yield objects
    del sys.modules["old_framework"]
