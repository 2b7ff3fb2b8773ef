"""A folder with a good and a bad recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe_text import MINIMAL


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(MINIMAL)
    Path("bad.yaml").write_text(MINIMAL + "runs: 0\nrusn: 3\n")
    return tmp_path
