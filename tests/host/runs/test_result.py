"""A finished run from Python."""

from __future__ import annotations

import pytest
import torch

from daps_kit.errors import UserError
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.result import RunResult


def test_results_of_different_shapes_are_not_stacked(tmp_path):
    folder = RunFolder(tmp_path)
    for name, size in (("a", 4), ("b", 6)):
        folder.write_sample(name, 0, Sample(torch.zeros(3, size, size)))
    with pytest.raises(UserError, match=r"different shapes .*take them one by one"):
        _ = RunResult(tmp_path, ("a", "b"), 1).samples
    with pytest.raises(UserError, match="has tasks"):
        _ = RunResult(tmp_path, tasks=(RunResult(tmp_path, ("a",), 1),)).samples
