"""Where the tests of a source file are: by its path."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]

FOLDERS = {
    "daps_kit": "tests/host",
    "operators/daps_operators": "tests/operators",
    "priors/daps_priors": "tests/priors",
    "samplers/daps_samplers": "tests/samplers",
}
"""The folder of the tests of each package."""


def mirrored(source: str) -> str:
    """Return where the tests of a source file belong, both from the root of the repository.

    Raises:
        ValueError: the file is in no package that has tests here.
    """
    for package, tests in FOLDERS.items():
        if PurePosixPath(source).is_relative_to(package):
            inside = PurePosixPath(source).relative_to(package)
            return str(PurePosixPath(tests) / inside.parent / f"test_{inside.name}")
    raise ValueError(f"{source} is in none of {', '.join(FOLDERS)}")


def sources(package: str) -> list[str]:
    """Return the source files of a package or of a folder in one, from the root of the repository."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py"))
