"""Settings of a blur network that cannot be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.operators.nonlinear_blur.small_training import NETWORK, settings


def test_settings_that_do_not_fit_are_refused(images, tmp_path):
    with pytest.raises(ValidationError, match="must be at least 2 modes"):
        settings(images, tmp_path, network=NETWORK | {"modes": 7})
    with pytest.raises(ValidationError, match="multiple of 4"):
        settings(images, tmp_path, frame=33)
