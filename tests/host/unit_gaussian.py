"""A network that is the exact denoiser of N(0, I), and pictures of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny_models import save_ddpm


def tiny_section(folder: Path) -> dict[str, Any]:
    """A network that is the denoiser of N(0, I), in a file."""
    architecture = {"num_head_channels": 32, "image_size": 8}
    return {
        "use": "ddpm",
        "model": "custom",
        "checkpoint": str(save_ddpm(folder / "tiny.pt")),
        "architecture": architecture,
    }
