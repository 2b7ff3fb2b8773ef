"""Where images come from."""

from __future__ import annotations

from pathlib import Path

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
