"""`daps-kit check-prior` on the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.command_line import call


def test_the_embedded_prior_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("check-prior", "embedded")
    assert result.exit_code == 0, result.output
    assert "embedded, checked on astronaut.png: right; its error is" in result.stdout
    assert result.stdout.splitlines()[0].split() == [
        "sigma",
        "error",
        "linear",
        "filter",
        "ratio",
        "calibration",
        "ratio",
    ]
    told = json.loads(call("check-prior", "prior.use=embedded", "--json").stdout)[0]
    assert (told["right"], told["problems"], told["images"]) == (True, [], "astronaut.png")
    assert [level["sigma"] for level in told["levels"]] == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    assert all(0.2 < level["mse"] / level["linear"] < 1.1 for level in told["levels"])
