"""The files of Python that a recipe names: plugins without a package, which are executed when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PrivateAttr, WithJsonSchema

from daps_kit.errors import ComponentError, Problem
from daps_kit.paths import FilePath, RecipeText, resolve_path
from daps_kit.plugin_file import plugin_path
from daps_kit.registry import Registry, default_registry
from daps_kit.remote import url_of
from daps_kit.settings import Settings

from .document import Node
from .resolved import components

__all__ = ["ABOUT", "PluginFiles", "WithPlugins", "opened", "with_used"]

ABOUT = (
    "files of Python with components of your own; they are executed, so that a recipe of somebody else's is to be read "
    "first; relative to the recipe"
)
"""What the setting is."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else tuple(value) if isinstance(value, list) else value


PluginFiles = Annotated[
    tuple[Annotated[FilePath, AfterValidator(plugin_path)], ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Files of Python: one, or a list."""


class WithPlugins(Settings):
    """Settings whose components were looked up among those of some files, too."""

    _registry: Registry | None = PrivateAttr(None)

    @property
    def registry(self) -> Registry:
        """Where its components are known."""
        return self._registry or default_registry()


def _entries(node: Node) -> list[Node]:
    return node.value if isinstance(node.value, list) else [node]


def opened(node: Node, registry: Registry, problems: list[Problem]) -> Registry:
    """Return a registry that knows the files of a document, too; what is wrong with one is added to `problems`."""
    named = node.value.get("plugins")
    for entry in [] if named is None else _entries(named):
        if not isinstance(entry.value, RecipeText):
            continue
        try:
            path = resolve_path(entry.value)
            if url_of(path):
                raise ValueError("Python is executed from files of this machine alone, not from a URL")
            if path.is_file() and path.suffix == ".py":
                registry = registry.with_files([path])
        except (ComponentError, ValueError) as error:
            problems.append(Problem(str(error), "plugins", entry.place))
    return registry


def with_used(files: Sequence[Path], recipe: Settings, registry: Registry) -> tuple[Path, ...]:
    """Return files and those that a recipe's components come from, so that it runs again where nobody names them."""
    used = [registry.component_of(settings).file for settings in components(recipe)]
    return tuple(dict.fromkeys([*files, *(file for file in used if file is not None)]))
