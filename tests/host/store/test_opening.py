"""Which store a folder has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.store import open_store


def test_what_is_not_installed_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.delitem(sys.modules, "daps_kit.store.zarr_store", raising=False)
    with pytest.raises(UserError, match=r"pip install 'daps-kit\[zarr\]'"):
        open_store(tmp_path, new="zarr")
    assert open_store(tmp_path).pictures


def test_to_look_needs_neither_torch_nor_zarr(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from daps_kit.store import open_store;"
        "print(list(open_store(pathlib.Path('.')).keys())); print({'torch', 'zarr'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "set()"]
