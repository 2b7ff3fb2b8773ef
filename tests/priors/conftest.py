"""What the tests of priors share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def model_card() -> ModuleType:
    """The script that writes the measured part of model cards."""
    script = Path(__file__).parents[2] / "docs" / "model_card.py"
    spec = importlib.util.spec_from_file_location("model_card", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
