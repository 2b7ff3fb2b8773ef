"""Keep in a recipe by how much its intervals are to be widened: the line `widen:` of its file."""

from __future__ import annotations

import re
from pathlib import Path

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.reading import reading
from daps_kit.recipe import Recipe

__all__ = ["apply", "require_own"]


def require_own(recipe: str | Path, found: tuple[Recipe, ...]) -> Path:
    """Return the file of a recipe that a user may change.

    Args:
        recipe: as it was named.
        found: what was read.

    Raises:
        UserError: it is one that is installed, or has tasks, each of which would have a factor of its own.
    """
    file = Path(recipe)
    if not file.is_file():
        raise UserError(
            f"--apply changes a recipe of your own; `daps-kit recipes copy {recipe} my.yaml` gives you one"
        )
    if len(found) > 1:
        raise UserError(
            f"--apply: {file} has tasks, each with a factor of its own; write `widen` into them by hand"
        )
    return file


def apply(file: Path, widen: float) -> None:
    """Write a factor into the file of a recipe, in the place of the one that is there."""
    with reading(file):
        text = file.read_text(encoding="utf-8")
    line = f"widen: {widen:.3g}"
    changed, count = re.subn(r"^widen:[^#\n]*?(?=\s*(#|$))", line, text, count=1, flags=re.MULTILINE)
    if not count:
        changed = f"{text}{'' if text.endswith(chr(10)) else chr(10)}{line}  # found by daps-kit coverage\n"
    write_atomic(file, changed.encode())
