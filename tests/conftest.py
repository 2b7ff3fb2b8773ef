"""What all tests share: the recorded numbers, and one thread a process."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Some tests use the benchmarks, which are not installed, and the small models beside this file. Last on the path, so that
# installed packages are what is tested.
sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

# Jobs in the background begin with Ctrl-C ignored, and so would the programs that tests start and break off.
if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str], tuple[dict[str, np.ndarray], dict[str, Any]]]


def load_golden(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the parameters of `tests/golden/<name>.npz`."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "params"}
        params = json.loads(str(file["params"]))
    return arrays, params


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Numbers recorded from the published implementation: `golden(name)` gives arrays and parameters."""
    return load_golden
