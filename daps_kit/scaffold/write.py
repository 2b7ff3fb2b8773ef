"""A plugin to start from: `daps-kit new operator my_blur` writes a small, complete distribution.

It installs, passes its tests and shows in `daps-kit list` as it stands, and does something real: what a new author
changes is known to work.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

import daps_kit
from daps_kit.errors import UserError
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import Kind

from .templates import COMMON, KINDS, WORDS

__all__ = ["Names", "write_plugin"]

RESERVED = frozenset({
    "kit", "operators", "priors", "recipes", "samplers", "operator", "linear_operator", "prior", "kernel", "sampler",
    "noise", "gaussian_noise", "covariance", "target", "step", "kernel_info", "kernel_state", "random_streams",
    "tensor", "user_error",
})  # fmt: skip
"""Names whose module, distribution or class would be one of daps-kit's own."""


@dataclass(frozen=True)
class Names:
    """What a component is called, everywhere: from `my_blur` or `daps-my-blur`.

    Attributes:
        name: in recipes, `my_blur`.
        distribution: `daps-my-blur`.
        module: `daps_my_blur`.
        class_name: `MyBlur`.
    """

    name: str

    @classmethod
    def of(cls, given: str) -> Names:
        """Return the names.

        Raises:
            UserError: it cannot be the name of a component and of a Python module.
        """
        bare = re.sub(r"^daps[-_]", "", given.strip())
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*", bare):
            raise UserError(
                f"'{given}' cannot be a name; allowed: a letter, then letters, digits and single '_' or '-', such as "
                "my_blur"
            )
        name = bare.replace("-", "_").lower()
        if keyword.iskeyword(name) or name in RESERVED:
            raise UserError(f"'{given}' cannot be a name: it is a word of Python or of daps-kit itself")
        return cls(name)

    @property
    def distribution(self) -> str:
        """Name of the distribution."""
        return f"daps-{self.name.replace('_', '-')}"

    @property
    def module(self) -> str:
        """Name of the import package."""
        return f"daps_{self.name}"

    @property
    def class_name(self) -> str:
        """Name of the implementation's class."""
        return "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))


def render(kind: Kind, names: Names) -> dict[str, str]:
    """Return the files of a new plugin, by path inside its folder."""
    own = KINDS[kind]
    words = {
        "kind": kind,
        "Kind": kind.capitalize(),
        "name": names.name,
        "Class": names.class_name,
        "module": names.module,
        "distribution": names.distribution,
        "version": daps_kit.__version__,
    }
    words |= {word: Template(own[word]).substitute(words) for word in WORDS}
    paths = dict.fromkeys([*COMMON, *(path for path in own if path not in WORDS)])
    texts = {path: COMMON.get(path, "") + own.get(path, "") for path in paths}
    return {
        Template(path).substitute(words): Template(text).substitute(words) for path, text in texts.items()
    }


def write_plugin(kind: Kind, name: str, folder: Path, registry: Registry | None = None) -> Path:
    """Write a new plugin into a folder of its own inside `folder`, and return that folder.

    Raises:
        UserError: the name cannot be used, or is a component's already; the folder exists; it cannot be written.
    """
    names = Names.of(name)
    known = [c for c in (registry or default_registry()).components(kind) if c.name == names.name]
    if known:
        raise UserError(
            f"the {kind} '{names.name}' is there already, from {known[0].distribution}; choose another name"
        )
    root = folder / names.distribution
    if root.exists():
        raise UserError(
            f"{root} exists already, and nothing is written over; choose another name or --folder"
        )
    try:
        for path, text in render(kind, names).items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {root}: {error.strerror}") from None
    return root
