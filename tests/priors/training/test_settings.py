"""Settings of a training that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.priors.training.discs import NETWORK, recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": 18}, "divisible by 4"),
        ({"batch_size": 15, "workers": 2}, "divisible by workers"),
        ({"augment": {"jitter": 2}}, "needs a margin"),
        ({"workers": 2, "device": "cuda"}, "several workers compute on the cpu"),
        ({"network": NETWORK | {"blocks": (1,)}}, "2 resolutions, blocks has 1"),
        ({"sigma": {"minimum": 200.0}}, "must be below maximum"),
        ({"learning_rte": 1.0}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(data, tmp_path, **changes)
