"""The site of the documentation works from a disk: its search, its pages on a phone, and nothing of a network.

sphinx-build docs site && DAPS_KIT_SITE=site pytest -n 0 -m browser tests/test_site.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="no selenium")
from tests.browser import MARKS, Browser

SITE = Path(os.environ.get("DAPS_KIT_SITE", "site")).resolve()

pytestmark = [
    *MARKS,
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="no site at DAPS_KIT_SITE"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("diffraction pattern", "examples/2_own/own_diffraction.html"),
        ("forgetting", "components.html"),
        ("scratches", "restore.html"),
        ("vignette", "python.html"),
    ],
)
def test_the_search_finds_without_a_network(browser: Browser, words: str, page: str) -> None:
    browser.asked()
    browser.driver.get_log("browser")
    browser.open(f"{SITE.as_uri()}/search.html?q={words.replace(' ', '+')}")
    browser.until(lambda: browser.all("#search-results li a"))
    found: list[str] = []

    def settled() -> bool:  # results are written one after the other
        before = len(found)
        found[:] = [
            link.get_attribute("href").partition("?")[0] for link in browser.all("#search-results li a")
        ]
        return len(found) == before and f"{SITE.as_uri()}/{page}" in [
            link.partition("#")[0] for link in found
        ]

    browser.until(settled)
    said = [entry["message"] for entry in browser.driver.get_log("browser")]
    assert not [message for message in said if "Uncaught" in message or "Failed to load" in message]
    assert all(address.startswith("file://") for address in browser.asked())


@pytest.mark.parametrize("page", ["index", "start", "examples/index", "components", "how-it-works"])
def test_a_page_fits_a_phone(browser: Browser, page: str) -> None:
    browser.asked()
    browser.open(f"{SITE.as_uri()}/{page}.html", width=390, dark=True)
    assert browser.script("return document.documentElement.scrollWidth") <= 390
    assert all(address.startswith("file://") for address in browser.asked())


def test_no_page_loads_from_elsewhere() -> None:
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loads = re.findall(
            r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']((?:https?:)?//[^"']+)""", text
        )
        assert loads == [], page
