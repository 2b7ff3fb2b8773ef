"""Which prior a command means: a prior's name, a section, overrides, or that of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daps_kit.errors import ComponentError, Problem, RecipeError, UserError, did_you_mean
from daps_kit.paths import working_folder
from daps_kit.recipe import load_recipe
from daps_kit.recipe.data import DataSettings, ImagesData
from daps_kit.recipe.document import Node
from daps_kit.recipe.installed import SUFFIXES, find_recipe, installed_recipes
from daps_kit.recipe.layers import apply_changes, parse_overrides
from daps_kit.recipe.sections import SectionReader
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import PriorSettings

__all__ = ["PriorChoice", "choose_priors"]


@dataclass(frozen=True)
class PriorChoice:
    """A prior, and the data of the recipe it comes from, if it does.

    Attributes:
        label: how to call it.
        settings: of the prior.
        data: of the recipe.
    """

    label: str
    settings: PriorSettings
    data: DataSettings | None = None

    @property
    def files(self) -> list[Path]:
        """The image files of the recipe."""
        return self.data.files if isinstance(self.data, ImagesData) else []


def choose_priors(words: Sequence[str], registry: Registry | None = None) -> list[PriorChoice]:
    """Return the prior that words mean; those of a recipe with several tasks, each once.

    Args:
        words: `embedded`, `{use: trained, path: weights.safetensors}`, `prior.use=embedded`, or a recipe's file or
            name; after it overrides, `KEY=VALUE`.
        registry: where priors are looked up; the installed plugins by default.

    Raises:
        UserError: there is no such prior or recipe, or it is wrong.
    """
    registry = registry or default_registry()
    first, rest = words[0], list(words[1:])
    if first.lstrip().startswith("{"):
        return [_from_section([f"prior={first}", *rest], registry)]
    if "=" in first:
        return [_from_section([first, *rest], registry)]
    if any(first in (c.name, c.qualified) for c in registry.components("prior")):
        return [_from_section([f"prior.use={first}", *rest], registry)]
    _require_recipe(first, registry)
    chosen: list[PriorChoice] = []
    for recipe in load_recipe(first, rest, registry=registry):
        if all(recipe.prior != other.settings for other in chosen):
            chosen.append(PriorChoice(recipe.name, recipe.prior, recipe.data))
    return chosen


def _from_section(overrides: Sequence[str], registry: Registry) -> PriorChoice:
    problems: list[Problem] = []
    changes = parse_overrides(overrides, problems)
    for keys, node in changes:
        if keys[0] != "prior":
            problems.append(Problem("without a recipe only prior... can be set", ".".join(keys), node.place))
    if not problems:
        root = apply_changes(Node({}), changes, problems)
        reader = SectionReader(registry)
        settings = reader.value(root.value["prior"], PriorSettings, "prior")
        problems += reader.problems
        if not problems and isinstance(settings, PriorSettings):
            return PriorChoice(registry.name_in_recipe(settings), settings)
    raise RecipeError(problems)


def _require_recipe(word: str, registry: Registry) -> None:
    """Refuse what is neither a prior nor a recipe, with the words of either."""
    found = find_recipe(word, working_folder())
    priors = list(dict.fromkeys(c.name for c in registry.components("prior")))
    if isinstance(found, Path) and found.suffix not in SUFFIXES:
        raise UserError(f"{word} is no recipe; to check weights write '{{use: trained, path: {word}}}'")
    if isinstance(found, str) and Path(word).suffix in SUFFIXES:
        raise UserError(found)
    if isinstance(found, str):
        try:
            registry.find("prior", word)  # such as a name that two plugins offer, or a broken plugin's
        except ComponentError as error:
            if "unknown prior" not in str(error):
                raise
        hint = did_you_mean(word, [*priors, *installed_recipes()])
        raise UserError(
            f"no prior and no recipe '{word}'; the priors are {', '.join(priors) or 'none'}{hint}"
        )
