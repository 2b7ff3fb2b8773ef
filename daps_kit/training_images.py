"""What trainers share about their images: which files they are in, and which of them are held out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from daps_kit.errors import UserError
from daps_kit.files import files_of

__all__ = ["picture_files", "split"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def picture_files(source: Path) -> list[Path]:
    """Return the image files of a folder (with all below it) or of a glob, sorted.

    Raises:
        UserError: there are none.
    """
    pattern = source / "**" / "*" if source.is_dir() else source
    files = sorted(files_of(pattern, SUFFIXES)[0])
    if not files:
        kinds = " ".join(sorted(SUFFIXES))
        raise UserError(f"no images at {source}: give a folder with images ({kinds}), a glob, or a .npz file")
    return files


def split(count: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the rows to train on and those held out: one drawn from each of `held_out` equal stretches, in order.

    Raises:
        UserError: fewer than twice as many rows as are held out.
    """
    if count < 2 * held_out:
        raise UserError(
            f"{count} images are too few to hold {held_out} out for validation: at most half may be"
        )
    edges = np.linspace(0, count, held_out + 1).round().astype(np.int64)
    rng = np.random.default_rng(seed)
    held = [int(rng.integers(a, b)) for a, b in itertools.pairwise(edges)]
    return sorted(set(range(count)) - set(held)), held
