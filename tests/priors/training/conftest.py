"""Images that a Gaussian does not describe, and a short training on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.priors.training.discs import recipe, shapes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "discs.npz"
    np.savez(path, images=shapes())
    return path


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short run."""
    output = tmp_path_factory.mktemp("run") / "output"
    recipe(data, output).build().run()
    return output
