"""The page: what it says, how large it is, that it stands alone, and that a run does not depend on it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import daps_kit
from daps_kit.errors import UserError
from daps_kit.report import page as module
from daps_kit.report.page import write_report, write_side_by_side

VOID = {"meta", "link", "input", "br", "img"}
MOST = 300_000
"""Bytes that a page may have."""


class Page(HTMLParser):
    """Reads a page: every element is closed where it should be, and ids are unique."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[key] for key in ("href", "src") if key in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    @property
    def data(self):
        return json.loads(
            re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text)[1]
        )


def scripts(path: Path) -> dict[str, object]:
    """Return what the files beside a page hold."""
    return {
        file.name: json.loads(re.fullmatch(r"daps\.\w+\((.*)\)\n", file.read_text())[1])
        for file in (path.parent / "report").iterdir()
    }


@pytest.fixture
def finished(toy):
    return daps_kit.run(toy(), ["trajectory=2"], quiet=True).path


@pytest.fixture
def apart(monkeypatch):
    """No page holds its pictures itself."""
    monkeypatch.setattr(module, "INLINE", 0)


def test_a_small_run_is_one_file(finished) -> None:
    page = Page(finished / "report.html")
    assert len(page.text.encode()) < MOST
    assert [file.name for file in (finished / "report").iterdir()] == ["environment.js"]
    assert page.text.count("daps.image(") == 3
    assert page.data["runs"] == [
        {
            "name": "toy",
            "base": "report/",
            "inline": True,
            "images": 3,
            "samples": 2,
            "together": 1,
            "widen": 1,
            "levels": True,
        }
    ]


def test_what_is_large_lies_beside_it(finished, apart) -> None:
    page = Page(write_report(finished))
    assert "daps.image(" not in page.text
    found = scripts(finished / "report.html")
    assert sorted(found) == [
        *(f"000{i}{end}.js" for i in range(3) for end in ("-levels", "")), "environment.js", "index.js",
        "numbers-0.js", "thumbs-0.js",
    ]  # fmt: skip
    metrics = json.loads((finished / "metrics.json").read_text())
    assert found["index.js"]["names"] == ["ash", "birch", "cedar"]
    psnr = metrics["images"]["birch"]["posterior_mean"]["psnr"]
    assert found["numbers-0.js"]["images"][1]["posterior_mean"]["psnr"] == pytest.approx(psnr, rel=1e-5)
    assert len(found["thumbs-0.js"]["pictures"]) == 3
    told = json.loads((finished / "environment.json").read_text())
    assert found["environment.js"] == told | {"seconds": pytest.approx(told["seconds"], rel=1e-5)}


def test_nothing_is_asked_of_a_network(finished) -> None:
    page = Page(finished / "report.html")
    links = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert all(re.match(r"https://(doi\.org|arxiv\.org)/", link) for link in links), (
        "only papers, to be clicked"
    )
    assert "@import" not in page.text
    assert not re.search(r"url\(|fetch\(|XMLHttpRequest|import\(", page.text)


def test_it_says_what_was_run_and_how_it_came_out(finished) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (finished / "report.html").read_text()))
    metrics = json.loads((finished / "metrics.json").read_text())["summary"]
    assert "gaussian blur with gaussian noise · prior gaussian · daps, kernel langevin" in text
    assert "3 images, 2 samples of each" in text
    assert f"{metrics['posterior_mean']['psnr']['mean']:.2f} ± " in text
    assert f"{metrics['sample_mean']['residual']['mean']:.3f} ± " in text
    assert "0.333 is due" in text
    assert "kernel_size: 5" in text
    assert "@inproceedings{zhang2025," in text


def test_what_went_wrong_is_told_with_its_cause(finished) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    lost = {
        "image": "ash",
        "run": 1,
        "cause": "diverged",
        "message": "lost at level 3: the chain <diverged>; smaller steps",
    }
    doubted = {
        "image": "birch",
        "run": 0,
        "cause": "residual",
        "message": "the measurement is not explained; look at y",
    }
    metrics |= {"lost": [lost], "doubted": [doubted], "widen": 1.25}
    del metrics["images"]["ash"]["samples"][1]
    (finished / "metrics.json").write_text(json.dumps(metrics))
    text = Page(write_report(finished)).text
    assert "ash, sample 2: lost at level 3: the chain &lt;diverged&gt;; smaller steps" in text
    assert "birch, sample 1: the measurement is not explained; look at y" in text
    assert "widened 1.25 times about the mean" in text


def test_names_are_text_whatever_is_in_them(finished) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    metrics["name"] = "</script><script>alert(1)</script>"
    (finished / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report(finished))
    assert "<script>alert" not in page.text
    assert page.data["runs"][0]["name"] == metrics["name"]


def test_the_same_folder_gives_the_same_page(finished, apart) -> None:
    def contents():
        files = [finished / "report.html", *(finished / "report").iterdir()]
        return {file.name: file.read_bytes() for file in files}

    write_report(finished)
    before = contents()
    write_report(finished)
    assert contents() == before
    assert "environment" not in before["report.html"].decode().split("<script>")[0]


def test_a_thousand_images_do_not_make_it_larger(finished, apart, monkeypatch) -> None:
    few = len(write_report(finished).read_bytes())
    metrics = json.loads((finished / "metrics.json").read_text())
    one = metrics["images"]["ash"]
    metrics["images"] = {f"image-{i:04d}": one for i in range(1000)}
    (finished / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(module, "image_data", lambda result, name: {})
    monkeypatch.setattr(module, "level_data", lambda result, name: None)
    monkeypatch.setattr(module, "thumb", lambda result, name: None)
    page = write_report(finished)
    assert len(page.read_bytes()) < few + 100
    assert len(scripts(page)["index.js"]["names"]) == 1000
    assert len(list((finished / "report").glob("thumbs-*.js"))) == -(-1000 // module.PART)
    parts = [scripts(page)[f"numbers-{part}.js"] for part in range(1000 // module.NUMBERS)]
    assert [(part["from"], len(part["images"])) for part in parts] == [(0, 500), (500, 500)]


def test_side_by_side(toy, tmp_path) -> None:
    first = daps_kit.run(toy(), quiet=True).path
    other = daps_kit.run(toy(), ["sampler.kernel.steps=8", f"output={tmp_path / 'other'}"], quiet=True).path
    path = write_side_by_side([first, other], tmp_path / "pages" / "both.html")
    page = Page(path)
    assert len(page.text.encode()) < MOST
    assert [run["base"] for run in page.data["runs"]] == ["../out/report/", "../other/report/"]
    assert [run["name"] for run in page.data["runs"]] == [f"{tmp_path.name}/out", f"{tmp_path.name}/other"]
    for run in page.data["runs"]:
        assert (path.parent / run["base"] / "0002.js").exists()
    settings = page.data["comparison"]["settings"]
    assert settings == [{"key": "sampler.kernel.steps", "values": ["4", "8"]}]
    assert "<code>sampler.kernel.steps</code>" in page.text


def test_a_run_is_not_lost_with_its_page(toy, monkeypatch, capsys) -> None:
    def broken(*arguments, **more):
        raise RuntimeError("no template")

    monkeypatch.setattr("daps_kit.report.page._html", broken)
    run = daps_kit.run(toy())
    assert "out: report.html was not written: no template" in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert run.samples.shape == (3, 2, 3, 16, 16)
    assert not (run.path / "report.html").exists()


def test_a_run_that_is_not_finished_has_no_page(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"summary": {"ensemble": 3}}, {"lost": [{}]}, {"images": {"ash": {"samples": 1}}}]
)
def test_metrics_that_no_run_writes_are_a_line(finished: Path, wrong: dict[str, object]) -> None:
    path = finished / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    for write in (write_report, lambda folder: write_side_by_side([folder, folder], folder / "two.html")):
        with pytest.raises(UserError, match="metrics.json is not what daps-kit run writes"):
            write(finished)
