"""Images to check a prior on."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.host.prior_check.smooth import smooth


@pytest.fixture(scope="module")
def images() -> Tensor:
    return smooth(12, seed=1)
