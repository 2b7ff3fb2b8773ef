"""A file's tests are found by its path: every source file has its tests at the mirrored place."""

from __future__ import annotations

import ast
import io
import tokenize

import pytest

from tests.mirror import FOLDERS, ROOT, mirrored, sources

SMALL = 40
"""Lines of code up to which a file may be tested with the files that use it."""

EXCEPTIONS = {
    # Text of files that `daps-kit new` writes; tests/host/scaffold/test_write.py installs and runs what comes out.
    "daps_kit/scaffold/kernel.py",
    "daps_kit/scaffold/noise.py",
    "daps_kit/scaffold/operator.py",
    "daps_kit/scaffold/prior.py",
    "daps_kit/scaffold/sampler.py",
    "daps_kit/scaffold/templates.py",
}

HOST = ("daps_kit/settings.py", "daps_kit/sources.py")
"""What settings and sources are."""

PACKAGES = [package for package in FOLDERS if (ROOT / package).is_dir()]
BLANK = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def lines_of_code(text: str) -> int:
    """Return how many lines hold code: no comment, no docstring, nothing blank."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in BLANK:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(lines)


def settings_only(file: str) -> bool:
    """Whether a file only declares what a package offers; a test_settings.py is for all settings of a folder."""
    return (
        file.endswith(("/__init__.py", "/settings.py", "_settings.py", "/noises.py", "/sources.py"))
        and file not in HOST
    )


def untested(package: str) -> list[str]:
    return [
        file
        for file in sources(package)
        if not (ROOT / mirrored(file)).exists()
        and not settings_only(file)
        and lines_of_code((ROOT / file).read_text(encoding="utf-8")) > SMALL
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_has_its_tests_where_its_path_says(package: str) -> None:
    missing = [f"{file}: no {mirrored(file)}" for file in untested(package) if file not in EXCEPTIONS]
    assert missing == []


def test_exceptions_are_files_without_tests() -> None:
    if PACKAGES:
        assert {file for package in PACKAGES for file in untested(package)} >= EXCEPTIONS


def test_lines_of_code_are_counted() -> None:
    text = '"""A module.\n\nIn words."""\n\n# A comment.\nX = 1  # one\n\n\ndef f():\n    """Of f."""\n    return """a\nb"""\n'
    assert lines_of_code(text) == 4


def test_paths_are_mirrored() -> None:
    assert mirrored("daps_kit/runs/folder.py") == "tests/host/runs/test_folder.py"
    assert mirrored("samplers/daps_samplers/ode.py") == "tests/samplers/test_ode.py"
    with pytest.raises(ValueError, match="is in none of daps_kit, "):
        mirrored("plugins/x.py")
