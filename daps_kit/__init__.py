"""daps-kit: posterior sampling for imaging inverse problems with diffusion priors, built from plugins.

The names below are loaded when they are first used, so that `import daps_kit` does not import torch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which takes its time to import
if TYPE_CHECKING:
    from typing import Any

    from daps_kit.api import build as build
    from daps_kit.api import sample as sample
    from daps_kit.api import score_ksd as score_ksd
    from daps_kit.declare import noise as noise
    from daps_kit.declare import operator as operator
    from daps_kit.declare import prior as prior
    from daps_kit.errors import UserError as UserError
    from daps_kit.hooks import hookimpl as hookimpl
    from daps_kit.runs.posterior import Posterior as Posterior
    from daps_kit.runs.result import open as open
    from daps_kit.runs.sweep import run as run

__version__ = "0.1.0"

_HOME = {
    "build": "daps_kit.api",
    "sample": "daps_kit.api",
    "score_ksd": "daps_kit.api",
    "run": "daps_kit.runs.sweep",
    "open": "daps_kit.runs.result",
    "Posterior": "daps_kit.runs.posterior",
    "UserError": "daps_kit.errors",
    "hookimpl": "daps_kit.hooks",
    "operator": "daps_kit.declare",
    "prior": "daps_kit.declare",
    "noise": "daps_kit.declare",
}

__all__ = [
    "Posterior",
    "UserError",
    "__version__",
    "build",
    "hookimpl",
    "noise",
    "operator",
    "prior",
    "run",
    "sample",
    "score_ksd",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'daps_kit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
