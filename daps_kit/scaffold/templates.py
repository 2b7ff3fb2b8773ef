"""The files that `daps-kit new` writes: for each kind of component a small one that does something real.

Placeholders are those of `string.Template`: $name (of the component), $Class, $module, $distribution and the like.
"""

from __future__ import annotations

from daps_kit.settings import Kind

from . import kernel, noise, operator, prior, sampler

__all__ = ["COMMON", "KINDS", "WORDS"]

WORDS = ("summary", "about", "trial", "typing", "imports")
"""Keys of a kind's templates that are words in its files, and not files."""

COMMON = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The $kind $name for daps-kit"
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["daps-kit>=$version"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points.daps_kit]
$name = "$module"

[tool.setuptools]
packages = ["$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "README.md": """\
# $distribution

The $kind `$name` for daps-kit. $about

    pip install -e '.[test]'          # now `daps-kit list` shows it
    pytest                            # the conformance kit, and what you add
    daps-kit show $kind/$name
    daps-kit run recipe.yaml

- `$module/__init__.py`: the settings, which a recipe writes. No torch here: every command imports this file.
- `$module/$name.py`: the implementation, imported when a run needs it.
- `tests/test_$name.py`: add an answer that you know by other means.
""",
    "tests/test_$name.py": '''\
"""$Class does what daps-kit's contracts say, and what its formula says."""

$imports
from $module.$name import $Class


@parametrize("$kind", {"use": "$name"}$trial)
def test_conformance(check):
    check()

''',
    "$module/__init__.py": '''\
"""$summary

Importing this module does not import torch: every command does so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from daps_kit.hooks import hookimpl
from daps_kit.settings import ${Kind}Settings

if TYPE_CHECKING:
$typing    from daps_kit.contracts import $Kind


class ${Class}Settings(${Kind}Settings):
    """$summary"""

    name = "$name"
''',
}
"""Files of every kind; those of a kind are added to them, or take their place."""

KINDS: dict[Kind, dict[str, str]] = {
    "operator": operator.TEMPLATE,
    "noise": noise.TEMPLATE,
    "prior": prior.TEMPLATE,
    "kernel": kernel.TEMPLATE,
    "sampler": sampler.TEMPLATE,
}
"""For each kind: words ($summary, $about, ...) by name, and files by path."""
