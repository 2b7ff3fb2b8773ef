"""A working folder, and a registry with components that take anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.registry import Registry
from tests.host.recipe.components import Anything, Holder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registry() -> Registry:
    registry = Registry.discover(third_parties=False)
    registry.add(Anything, Holder)
    return registry
