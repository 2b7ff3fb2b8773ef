"""Memory that does not suffice: told before it is taken where that can be known, and else known when it is refused.

Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

import os

from daps_kit.errors import UserError

__all__ = ["out_of_memory", "require_memory"]


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
