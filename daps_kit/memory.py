"""Memory: what does not suffice, told before it is taken where that can be known; and the most that was taken.

Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from daps_kit.errors import UserError

__all__ = ["forget_peak", "out_of_memory", "peak_memory", "require_memory"]

_PROCESS = Path("/proc/self")


def require_memory(numbers: float, what: str) -> None:
    """Refuse what cannot fit into the memory of this machine.

    Args:
        numbers: of single precision that are there at once, at least.
        what: needs them, to begin a sentence.

    Raises:
        UserError: there is less memory than that; where the machine does not tell, nothing is refused.
    """
    there = _there()
    if there is not None and 4 * numbers > there:
        raise UserError(
            f"{what}: {4 * numbers / 2**30:.3g} GiB of memory at least, and this machine has {there / 2**30:.3g}"
        )


def _there() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory did not suffice, of the processor or of a GPU."""
    if isinstance(error, MemoryError):
        return True
    phrases = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in phrases)


def forget_peak() -> None:
    """Begin to watch anew for the most memory of this process; nothing happens where the system cannot."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int | None:
    """Return the most bytes since `forget_peak` that this process held, its libraries included.

    Of a process that uses a GPU, those of the GPU. None where the system does not tell, as any but Linux.
    """
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        taken = int(torch.cuda.max_memory_allocated())
        if taken:
            return taken
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
