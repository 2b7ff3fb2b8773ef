"""`daps-kit show`."""

from __future__ import annotations

import daps_kit
from tests.host.command_line import ok


def test_show() -> None:
    text = ok("show", "operator/gaussian_blur")
    assert text.startswith(f"operator/gaussian_blur, provided by daps-kit {daps_kit.__version__}\n")
    assert ok("show", "gaussian_blur") == ok("show", "operators/daps-kit/gaussian_blur") == text
    (line,) = [line for line in text.splitlines() if line.startswith("intensity")]
    assert line.split(maxsplit=7)[:7] == ["intensity", "number", "or", "unknown", "3.0", ">", "0,"]
    assert "standard deviation of the Gaussian" in line
    assert text.rstrip().endswith("intensity: 3.0\n  boundary: reflect")
