"""With what a run is computed, so that a difference between two machines can be told."""

from __future__ import annotations

import os
import platform
from importlib.metadata import entry_points, version
from typing import Any

import torch

from daps_kit.hooks import GROUP

__all__ = ["environment"]


def environment(device: torch.device) -> dict[str, Any]:
    """Return with what a run is computed: versions, plugins, machine and the settings of torch that matter."""
    libraries = ("torch", "numpy", "scipy", "pillow", "safetensors", "pydantic", "pluggy")
    plugins = {point.dist.name: point.dist.version for point in entry_points(group=GROUP) if point.dist}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "torch_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "libraries": {name: version(name) for name in libraries},
        "plugins": dict(sorted(plugins.items())),
    }
