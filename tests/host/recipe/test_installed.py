"""Recipes by the path of a file, and by the name of an installed one."""

from __future__ import annotations

import pytest

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.data import PriorData
from tests.recipe_text import MINIMAL, write


def test_an_installed_recipe_by_name() -> None:
    (recipe,) = load_recipe("embedded/phase_retrieval")
    assert recipe.name == "phase_retrieval"
    (mine,) = load_recipe(write("mine.yaml", "extends: embedded/phase_retrieval\nruns: 2\n"))
    assert (mine.runs, mine.operator) == (2, recipe.operator)


@pytest.mark.parametrize("name", ["r\udcff.yaml", "a\nb.yaml"])
def test_a_name_that_nothing_can_be_called_after(name: str) -> None:
    write(name, MINIMAL)
    with pytest.raises(UserError, match="which a recipe cannot hold; rename it") as caught:
        load_recipe(name)
    assert str(caught.value).isprintable()


def test_a_file_comes_before_an_installed_recipe() -> None:
    write("embedded/phase_retrieval", MINIMAL)
    assert load_recipe("embedded/phase_retrieval")[0].data == PriorData(count=2)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("no.yaml", "no such file: no.yaml"),
        (
            "mine.yam",
            "no recipe 'mine.yam': no file, and not one of those that `daps-kit recipes` lists",
        ),
        ("embedded/phase_retrival", "did you mean 'embedded/phase_retrieval'"),
        (".", ". is a folder, not a recipe"),
    ],
)
def test_recipes_that_are_not_there(recipe: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 150, "one short line, not every recipe there is"


def test_a_near_file_is_suggested() -> None:
    write("mine.yaml", MINIMAL)
    with pytest.raises(UserError, match=r"no such file: mime.yaml; did you mean 'mine.yaml'\?"):
        load_recipe("mime.yaml")
