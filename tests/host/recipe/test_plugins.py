"""Files of Python in recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe, load_training, resolved_yaml
from daps_kit.recipe.copy import copy_recipe
from daps_kit.recipe.schema import recipe_schema
from daps_kit.registry import Registry, default_registry
from tests.plugin_files import RECIPE, SOURCE, write_plugin
from tests.recipe_text import load, problems, write


def test_a_recipe_names_a_file_beside_it(folder: Path) -> None:
    file = write_plugin(folder / "deep")
    write("deep/r.yaml", RECIPE)
    (recipe,) = load_recipe("deep/r.yaml")
    assert recipe.plugins == (file,)
    assert (recipe.operator.name, recipe.prior.name) == ("dim", "pixels")
    assert recipe.registry.find("operator", "dim").file == file
    assert all(c.name != "dim" for c in default_registry().components("operator"))
    (again,) = load_recipe("deep/r.yaml")
    assert again == recipe


def test_the_resolved_recipe_runs_again_and_says_what_is_executed(folder: Path) -> None:
    file = write_plugin(folder)
    recipe = load(RECIPE)
    text = resolved_yaml(recipe)
    assert f"# {file} is executed: it is Python, not data\n" in text
    assert f'# file "{file}": sha256 ' in text
    assert "use: my_operator.py/dim\n" in text
    write("elsewhere/resolved.yaml", text)
    (again,) = load_recipe("elsewhere/resolved.yaml")
    assert again == recipe


def test_a_file_that_is_named_elsewhere_is_kept_by_what_uses_it(folder: Path) -> None:
    file = write_plugin(folder)
    text = RECIPE.replace("plugins: [my_operator.py]\n", "")
    assert any("unknown operator 'dim'" in line for line in problems(text))
    with default_registry().extended(files=[file]):
        assert load(text).plugins == (file,)
        unused = (
            "format: 1\ndata: {use: prior, count: 2}\nprior: {use: gaussian}\noperator: {use: identity}\n"
        )
        assert load(unused).plugins == ()
        assert "dim" in str(recipe_schema())
    assert "'dim'" not in str(recipe_schema())


def test_files_of_what_is_extended_are_joined(folder: Path) -> None:
    write_plugin(folder / "base")
    glow = "import daps_kit\n@daps_kit.operator\ndef glow(x):\n    'Brighter.'\n    return x + 0.1\n"
    write_plugin(folder, glow, "glow.py")
    write("base/base.yaml", RECIPE)
    recipe = load("extends: [base/base.yaml]\nplugins: glow.py\noperator: {use: glow}\n")
    assert recipe.plugins == (folder / "base/my_operator.py", folder / "glow.py")
    assert (recipe.operator.name, recipe.prior.name) == ("glow", "pixels")


def test_a_single_file_needs_no_brackets(folder: Path) -> None:
    file = write_plugin(folder)
    assert load(RECIPE.replace("[my_operator.py]", "my_operator.py")).plugins == (file,)
    assert load(RECIPE.replace("[my_operator.py]", "[]"), "plugins=[my_operator.py]").plugins == (file,)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "1 / 0\n",
            r"r.yaml:2:11: plugins: .*my_operator.py: line 1: ZeroDivisionError: division by zero \(put",
        ),
        (None, r"plugins.0: no such file: .*my_operator.py"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_where_it_is_named(
    folder: Path, source: str | None, line: str
) -> None:
    if source is not None:
        write_plugin(folder, source)
    with pytest.raises(RecipeError, match=line):
        load(RECIPE)


def test_only_files_of_python_are_executed(folder: Path) -> None:
    (folder / "my_operator.txt").write_text(SOURCE)
    with pytest.raises(RecipeError, match="plugins.0: .*my_operator.txt is no file of Python"):
        load(RECIPE.replace("my_operator.py", "my_operator.txt"))


def test_no_plugins_means_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(folder, "raise RuntimeError('it was executed')\n")
    monkeypatch.setenv("DAPS_KIT_DISABLE", "*")
    with pytest.raises(RecipeError, match="the plugin my_operator.py .* is switched off and may offer it"):
        load_recipe(write("r.yaml", RECIPE), registry=Registry.discover())


def test_a_copy_of_a_recipe_finds_its_files(folder: Path) -> None:
    file = write_plugin(folder / "deep")
    write("deep/r.yaml", RECIPE)
    copied = copy_recipe("deep/r.yaml", folder / "mine.yaml")
    assert load_recipe(copied)[0].plugins == (file,)


def test_a_training_may_name_a_file(folder: Path) -> None:
    write_plugin(
        folder,
        "from daps_kit.hooks import hookimpl\nfrom daps_kit.settings import TrainerSettings\n"
        "class Mine(TrainerSettings):\n    'A trainer of my own.'\n    name = 'mine'\n    def build(self): ...\n"
        "@hookimpl\ndef daps_trainers():\n    return [Mine]\n",
    )
    trained = load_training(write("t.yaml", "format: 1\nplugins: [my_operator.py]\ntrainer: {use: mine}\n"))
    assert trained.plugins == (folder / "my_operator.py",)
    assert "use: my_operator.py/mine" in resolved_yaml(trained, command="train")
