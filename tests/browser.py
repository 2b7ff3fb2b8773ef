"""A browser for tests: headless Chromium, which pages are opened in.

pip install 'daps-kit[browser]'; apt-get install chromium chromium-driver
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip

MARKS = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its driver"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
"""What tests in a browser are marked by."""


class Browser:
    """A page that is open in headless Chromium, as a person sees it."""

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(DRIVER or ""))
        self.driver.set_script_timeout(120)

    def open(self, address: str, width: int = 1280, *, dark: bool = False) -> None:
        """Open a page in a window of 900 pixels' height."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(address)

    def asked(self) -> list[str]:
        """Return what was asked for since this was asked last: addresses, but those that are data themselves."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith(("data:", "blob:"))]

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def until(self, holds) -> Any:
        return WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: holds())

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", self.find(selector)
        )
        self.find(selector).click()

    def style(self, selector: str, name: str) -> str:
        return self.script("return getComputedStyle(arguments[0])[arguments[1]]", self.find(selector), name)
