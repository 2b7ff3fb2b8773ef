"""Arrays in files: every format, nothing unpickled, damage named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daps_kit.arrays import read_array
from daps_kit.errors import UserError
from tests.host.array_files import Y, written


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"y": Evil()}, "evil.pt")
    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    Path("plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "evil.npy", "plain.pt"):
        with pytest.raises(UserError, match=name):
            read_array(Path(name))
    assert not Path("evil").exists()


def test_damaged_files_and_wrong_keys(tmp_path):
    for kind in ("npy", "npz", "pt", "safetensors"):
        path = written(tmp_path, kind, Y)
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(UserError, match=f"cannot read .*mine.{kind}") as caught:
            read_array(path)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "two.npz", blurred=np.zeros(2), sharp=np.ones(2))
    with pytest.raises(UserError, match="holds blurred, sharp; say which"):
        read_array(tmp_path / "two.npz")
    with pytest.raises(UserError, match="no array 'blured', it holds blurred, sharp; did you mean 'blurred'"):
        read_array(tmp_path / "two.npz", "blured")
    assert read_array(tmp_path / "two.npz", "sharp").tolist() == [1, 1]
    np.save(tmp_path / "text.npy", np.array(["a"]))
    with pytest.raises(UserError, match="expected an array of real numbers, got <U1"):
        read_array(tmp_path / "text.npy")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="expected an array of real numbers, got list"):
        read_array(tmp_path / "list.pt")
