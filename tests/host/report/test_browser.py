"""The page in a browser: headless Chromium, from the disk. Left out where there is none, or no selenium.

pip install 'daps-kit[browser]'; apt-get install chromium chromium-driver; npm install axe-core
pytest -m browser
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import daps_kit
from daps_kit.report import page as module
from daps_kit.report.page import write_report, write_side_by_side

pytest.importorskip("selenium", reason="no selenium")
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

from tests.browser import MARKS, Browser

AXE = Path(os.environ.get("DAPS_KIT_AXE", Path(__file__).parents[3] / "node_modules/axe-core/axe.min.js"))
pytestmark = MARKS


def run(folder: Path, name: str, **changes: Any) -> Path:
    """Draw a few samples of small images and return the folder of the run."""
    recipe = {
        "format": 1,
        "name": name,
        "data": {"use": "prior", "count": 3, "image_shape": [3, 12, 18]},
        "prior": {"use": "gaussian", "std": 0.4},
        "operator": {"use": "inpainting", "mask": "random"},
        "sampler": {
            "use": "daps",
            "annealing": {"use": "edm", "levels": 4},
            "kernel": {"use": "langevin", "steps": 3},
        },
        "runs": 5,
        "trajectory": 3,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return daps_kit.run(path, [f"output={folder / name}"], quiet=True).path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with pictures beside its page, one sample of which is doubted."""
    path = run(tmp_path_factory.mktemp("browser"), "one")
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["doubted"] = [
        {
            "image": "draw-001",
            "run": 2,
            "cause": "residual",
            "message": "the measurement is not explained; look at y",
        }
    ]
    (path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "INLINE", 0)
        write_report(path)
    return path


class Page(Browser):
    """The page of a run that is open."""

    def show(self, path: Path, width: int = 1280, *, dark: bool = False) -> None:
        self.open(path.resolve().as_uri(), width, dark=dark)
        self.script("try { localStorage.clear() } catch {}; delete document.documentElement.dataset.theme")
        self.until(lambda: self.script("return document.documentElement.dataset.ready"))

    def view(self) -> list[float]:
        """Return how all pictures are scaled, and how they are moved relative to their size."""
        found = self.script(
            "return [...document.querySelectorAll('.layer')].map((e) => { const m = new DOMMatrix(getComputedStyle(e)"
            ".transform), box = e.parentElement.getBoundingClientRect(); return [m.a, m.e / box.width, m.f / box.height]"
            "})"
        )
        assert len(found) > 8
        assert np.ptp(found, axis=0).max() < 0.01, "all together"
        return found[0]

    def pixel(self, row: int, column: int) -> None:
        for name, value in (("row", row), ("column", column)):
            self.script(
                "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
                "e.dispatchEvent(new Event('change'))",
                name,
                value,
            )
        self.until(lambda: self.script("return Number(document.getElementById('row').value)") == row)

    def numbers(self) -> list[list[float]]:
        """Return the table of the pixel."""
        rows = self.script(
            "return [...document.querySelectorAll('#pixel-table tbody tr')].map((r) => [...r.querySelectorAll('td')]"
            ".map((c) => c.textContent.replace('−', '-')))"
        )
        return [[float(cell) for cell in row] for row in rows]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    made = Page()
    yield made
    made.driver.quit()


def test_no_error_and_nothing_of_a_network(browser, folder) -> None:
    browser.asked()
    browser.driver.get_log("browser")
    browser.show(folder / "report.html")
    browser.find("#viewer h3")
    assert browser.driver.get_log("browser") == []
    files = browser.asked()
    assert files
    assert all(address.startswith(folder.resolve().as_uri()) for address in files)
    assert not [address for address in files if address.endswith("0001.js")], (
        "what is not looked at is not loaded"
    )


def test_the_slider_shows_more_of_the_left_picture(browser, folder) -> None:
    browser.show(folder / "report.html")
    before = browser.style(".clip", "clipPath")
    browser.find("#split").send_keys(Keys.HOME)
    assert browser.style(".clip", "clipPath") != before
    assert "100%" in browser.style(".clip", "clipPath")
    Select(browser.find("#left")).select_by_visible_text("Truth")
    assert browser.find("#left-name").text == "Truth"
    assert browser.find("#over img").get_attribute("alt") == "True image draw-000"


def test_all_pictures_are_zoomed_and_moved_together(browser, folder) -> None:
    browser.show(folder / "report.html")
    assert browser.view() == [1, 0, 0]
    browser.pixel(6, 9)
    for _ in range(3):
        browser.click("#zoom-in")
    scale, x, _ = browser.view()
    assert scale == pytest.approx(1.5**3, abs=0.01)
    lens = browser.find("#lens")
    browser.script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", lens)
    ActionChains(browser.driver).move_to_element_with_offset(lens, 60, 20).click_and_hold().move_by_offset(
        -50, 0
    ).release().perform()
    assert browser.view()[1] == pytest.approx(x - 50 / lens.size["width"], abs=0.03)
    browser.click("#fit")
    assert browser.view() == [1, 0, 0]


def test_the_samples_of_a_pixel_are_those_of_the_run(browser, folder) -> None:
    browser.show(folder / "report.html")
    samples = torch.stack(
        [_tensor(folder, f"samples/draw-000/sample-0{run}", "x0") for run in range(1, 6)]
    ).clamp(-1, 1)
    truth = _tensor(folder, "measurement/draw-000", "truth").clamp(-1, 1)
    for row, column in ((0, 0), (11, 17), (4, 13)):
        browser.pixel(row, column)
        x = samples[:, :, row, column].double()
        wanted = torch.stack(
            [
                x.mean(0),
                x.std(0),
                *(x.quantile(q, dim=0) for q in (0.05, 0.5, 0.95)),
                truth[:, row, column].double(),
            ],
            1,
        )
        browser.until(
            lambda wanted=wanted: np.abs(np.array(browser.numbers()) - wanted.numpy()).max() < 0.006
        )
    assert len(browser.all("#histogram svg[role=img]")) == 3
    assert "truth" in browser.find("#histogram .channel svg").get_attribute("aria-label")


def _tensor(folder: Path, file: str, key: str) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(folder / f"{file}.safetensors")[key]


def test_a_click_takes_the_pixel_under_it(browser, folder) -> None:
    browser.show(folder / "report.html")
    lens = browser.all(".tile .lens")[1]
    browser.script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", lens)
    width, height = lens.size["width"], lens.size["height"]
    ActionChains(browser.driver).move_to_element_with_offset(
        lens, round((4.5 / 18 - 0.5) * width), round((2.5 / 12 - 0.5) * height)
    ).click().perform()
    browser.until(lambda: browser.script("return document.getElementById('column').value") == "4")
    assert browser.script("return document.getElementById('row').value") == "2"


def test_the_keyboard_moves_pixel_and_view(browser, folder) -> None:
    browser.show(folder / "report.html")
    browser.pixel(5, 5)
    lens = browser.find("#lens")
    lens.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    browser.until(lambda: browser.script("return document.getElementById('row').value") == "7")
    assert browser.script("return document.getElementById('column').value") == "6"
    lens.send_keys("+", "+")
    assert browser.view()[0] == pytest.approx(2.25)
    lens.send_keys("0")
    assert browser.view() == [1, 0, 0]


def test_a_click_on_a_heading_sorts(browser, folder) -> None:
    browser.show(folder / "report.html")
    metrics = json.loads((folder / "metrics.json").read_text())["images"]
    psnr = {name: item["posterior_mean"]["psnr"] for name, item in metrics.items()}
    for direction, sign in (("descending", -1), ("ascending", 1)):
        browser.click("#table thead th:nth-child(2) button")
        assert browser.find("#table thead th:nth-child(2)").get_attribute("aria-sort") == direction
        names = [cell.text for cell in browser.all("#table tbody th button")]
        assert names == sorted(psnr, key=lambda name: sign * psnr[name])


def test_a_doubted_sample_is_marked_with_cause_and_advice(browser, folder) -> None:
    browser.show(folder / "report.html")
    browser.click("#after")
    browser.until(lambda: browser.find("#image-name").text == "draw-001")
    tiles = browser.all(".tile.doubted")
    assert len(tiles) == 1
    assert "Sample 3" in tiles[0].text
    assert "not explained; look at y" in tiles[0].text
    assert "⚠" in browser.find("#flags").text


def test_the_way_through_the_levels(browser, folder) -> None:
    browser.show(folder / "report.html")
    browser.until(lambda: browser.find("#way").is_displayed())
    last = browser.find("#way-pictures img").get_attribute("src")
    browser.find("#level").send_keys(Keys.HOME)
    assert browser.find("#way-pictures img").get_attribute("src") != last
    assert browser.find("#level").get_attribute("aria-valuetext").endswith("1 of 3")
    Select(browser.find("#way-run")).select_by_visible_text("sample 3")
    assert browser.find("#level").get_attribute("value") == "2"
    assert len(browser.all("#strip button")) == 3


def test_dark_and_light(browser, folder) -> None:
    def luminance() -> float:
        colour = browser.style("html", "backgroundColor")
        return float(np.mean([int(v) for v in colour[colour.index("(") + 1 : -1].split(",")[:3]]))

    browser.show(folder / "report.html", dark=True)
    assert luminance() < 60
    browser.click("#theme")
    assert luminance() > 200
    browser.show(folder / "report.html")
    assert luminance() > 200
    browser.click("#theme")
    assert luminance() < 60
    assert browser.find("#theme").get_attribute("aria-pressed") == "true"
    browser.script("localStorage.clear()")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_the_screen(browser, folder, width) -> None:
    browser.show(folder / "report.html", width)
    assert browser.script("return document.documentElement.scrollWidth") <= width


def test_recipe_and_bibtex_are_copied(browser, folder) -> None:
    browser.show(folder / "report.html")
    for button in browser.all(".copy"):
        browser.script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        button.click()
        browser.until(lambda button=button: "Cop" not in button.text or button.text == "Copied")


def test_many_images_are_paged_and_found(browser, tmp_path) -> None:
    data = {"use": "prior", "count": 60, "image_shape": [1, 8, 8]}
    path = run(tmp_path, "many", data=data, runs=2, trajectory=0)
    browser.show(path / "report.html")
    assert len(browser.all("#thumbs button")) == 24
    browser.click("#pager button:last-child")
    browser.click("#pager button:last-child")
    assert browser.all("#thumbs b")[0].text == "draw-048"
    browser.until(lambda: browser.all("#thumbs img[src]"))
    browser.find("#find").send_keys("draw-05")
    assert [name.text for name in browser.all("#thumbs b")] == [f"draw-05{i}" for i in range(10)]
    browser.click("#thumbs li:nth-child(4) button")
    browser.until(lambda: browser.find("#image-name").text == "draw-053")


def test_runs_side_by_side(browser, folder, tmp_path) -> None:
    other = run(folder.parent, "two", sampler={"use": "daps", "annealing": {"use": "edm", "levels": 4}})
    page = write_side_by_side([folder, other], tmp_path / "both.html")
    browser.driver.get_log("browser")
    browser.show(page)
    assert browser.driver.get_log("browser") == []
    assert [title.text for title in browser.all("#tiles h4")] == ["one", "two"]
    assert len(browser.all("#differences td.other")) > 0
    assert len(browser.all("table.pairs svg")) > 3
    assert len(browser.all("#table tbody tr")) == 6
    browser.show(page, 320)
    assert browser.script("return document.documentElement.scrollWidth") <= 320


def test_without_scripts_it_has_the_numbers_and_no_controls(browser, folder) -> None:
    disabled = "Emulation.setScriptExecutionDisabled"
    browser.driver.execute_cdp_cmd(disabled, {"value": True})
    try:
        browser.open((folder / "report.html").resolve().as_uri())
        assert "switched off" in browser.find("#images .note").text
        assert "Mean of the samples" in browser.find("#numbers table").text
        for control in ("#find", "#theme", ".copy", "#numbers h3"):
            assert not browser.find(control).is_displayed()
    finally:
        browser.driver.execute_cdp_cmd(disabled, {"value": False})


def test_an_image_of_one_run_alone_is_held_against_its_measurement(browser, folder, tmp_path) -> None:
    data = {"use": "prior", "count": 1, "offset": 3, "image_shape": [3, 12, 18]}
    page = write_side_by_side([folder, run(tmp_path, "alone", data=data)], tmp_path / "both.html")
    browser.show(page)
    assert [name.text for name in browser.all("#thumbs b")] == [
        "draw-000",
        "draw-001",
        "draw-002",
        "draw-003",
    ]
    for image, owner in (("draw-000", "one"), ("draw-003", "alone")):
        browser.until(lambda image=image: browser.find("#image-name").text == image)
        assert browser.find("#left-name").text == "Measurement"
        assert browser.find("#right-name").text == f"Mean, {owner}"
        browser.click("#thumbs li:last-child button")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(browser, folder, tmp_path, width, dark) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core")
    browser.show(folder / "report.html", width, dark=dark)
    browser.click("#after")
    browser.until(lambda: browser.find("#image-name").text == "draw-001")
    browser.script(AXE.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script(
        "const done = arguments[0]; axe.run().then((r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes.map("
        "(n) => n.html.slice(0, 120) + ' ' + n.failureSummary).slice(0, 4)])), (e) => done([['error', String(e)]]))"
    )
    assert [each for each in found if each[0] not in ("minor", "moderate")] == []
