"""Where images come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.data import ImagesData
from tests.recipe_text import MINIMAL, write


def test_paths_start_from_the_file_they_are_written_in(folder: Path) -> None:
    for name in ("a/one.png", "a/two.PNG", "a/notes.txt", "b/three.jpg"):
        write(name, "x")
    write("a/base.yaml", MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: .}"))
    write("b/r.yaml", "extends: ../a/base.yaml\n")
    (recipe,) = load_recipe("b/r.yaml")
    assert isinstance(recipe.data, ImagesData)
    assert recipe.data.path == (folder / "a",)
    assert recipe.data.files == [folder / "a/one.png", folder / "a/two.PNG"]
    (recipe,) = load_recipe("b/r.yaml", ["data.path=b/*.jpg"])
    assert recipe.data.files == [folder / "b/three.jpg"]  # type: ignore[union-attr]
    (recipe,) = load_recipe("b/r.yaml", ["data.path=[b/three.jpg, a, b]", "data.limit=2"])
    assert recipe.data.files == [folder / "b/three.jpg", folder / "a/one.png"]  # type: ignore[union-attr]
    assert recipe.output == folder / "results/r"


def test_items_are_chosen_by_offset_limit_and_a_seed(folder: Path) -> None:
    for name in "abcdef":
        write(f"p/{name}.png", "x")
    write("r.yaml", MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: p}"))

    def taken(*overrides: str) -> str:
        (recipe,) = load_recipe("r.yaml", overrides)
        return "".join(file.stem for file in recipe.data.files)

    assert taken() == "abcdef"
    assert taken("data.offset=2", "data.limit=3") == "cde"
    orders = {taken(f"data.shuffle={seed}") for seed in range(4)}
    assert len(orders) > 2
    assert all(sorted(order) == [*"abcdef"] for order in orders)
    shuffled = taken("data.shuffle=1")
    assert taken("data.shuffle=1", "data.offset=4") == shuffled[4:], "parts of one order are disjoint"
    (recipe,) = load_recipe("r.yaml", ["data.offset=6"])
    with pytest.raises(UserError, match=r"data\.offset: 6 leaves nothing of 6 items"):
        _ = recipe.data.files
