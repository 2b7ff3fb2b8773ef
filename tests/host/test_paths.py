"""Paths in settings start from their recipe, and stand for files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from daps_kit.paths import FilePath, RecipeText, folder_name, resolve_path
from daps_kit.settings import Settings


class Some(Settings):
    file: FilePath | None = None


def test_relative_paths_start_from_the_recipe_or_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = RecipeText("../x.npy", tmp_path / "recipes")
    assert resolve_path(text) == tmp_path / "x.npy"
    assert resolve_path("x.npy") == tmp_path / "x.npy"
    assert resolve_path("/a/b") == Path("/a/b")
    assert resolve_path(RecipeText("~/x", tmp_path)) == tmp_path / "home/x"
    assert resolve_path(3) == 3
    with pytest.raises(ValidationError, match=f"no such file: {tmp_path}/x.npy"):
        Some(file=text)  # type: ignore[arg-type]
    (tmp_path / "x.npy").touch()
    assert Some(file=text).file == tmp_path / "x.npy"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "what"), [("\udcff", "a byte that is not UTF-8"), ("a\nb", "a control character")]
)
def test_paths_that_no_recipe_can_hold(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Some(file=RecipeText("x.npy", tmp_path / name))  # type: ignore[arg-type]
    assert f"{what} in it, which a recipe cannot hold; rename it" in str(caught.value)
    (tmp_path / name).touch()
    assert Some(file=tmp_path / name).file == tmp_path / name, "a file that was found is only read"
    with pytest.raises(ValidationError, match="no such file: "):
        Some(file=tmp_path / f"{name}2")


def test_recipe_text_is_text() -> None:
    text = RecipeText("box", Path("/a"))
    assert text == "box"
    assert hash(text) == hash("box")
    assert text.folder == Path("/a")


def test_paths_that_cannot_be(tmp_path, monkeypatch):
    adapter = TypeAdapter(FilePath)
    for value, message in (
        ("~nobody-at-all/y.npy", "no such home folder"),
        ("x" * 5000, "File name too long"),
        ("y\0.npy", "a control character in it"),
        (str(tmp_path / "gone"), "no such file"),
    ):
        with pytest.raises(ValidationError, match=message):
            adapter.validate_python(value)
    gone = tmp_path / "working"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ValidationError, match="working folder cannot be used"):
        adapter.validate_python("y.npy")


def test_names_of_folders_stay_below_the_folder_they_are_made_in() -> None:
    for name in ("a", "a b", "a/b", "...", "~", "é" * 100, ".hidden"):
        assert folder_name(name) == name
    for name in ("", " ", ".", "..", "a/..", "../a", "/a", "a//b", "a/", "a\\b", "\ud800", "é" * 101):
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            folder_name(name)


def test_above_a_link_is_above_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    for folder in (tmp_path, tmp_path / "real"):
        (folder / "x.png").touch()
    assert resolve_path(RecipeText("../x.png", tmp_path / "link")).samefile(tmp_path / "real" / "x.png")
    assert resolve_path(RecipeText("real/../x.png", tmp_path)) == tmp_path / "x.png"
