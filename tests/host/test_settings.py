"""The base classes of settings: what they refuse, and how paths in a recipe are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from daps_kit.recipe.sections import read_section
from daps_kit.settings import (
    FilePath,
    FloatRange,
    GaussianNoiseSettings,
    KernelSettings,
    OperatorSettings,
    RecipeText,
    Settings,
    members,
    resolve_path,
)
from daps_operators.noises import Poisson


class Some(Settings):
    number: float = Field(1.0, gt=0)
    count: int = 1
    span: FloatRange = (0.0, 1.0)
    file: FilePath | None = None


@pytest.mark.parametrize(
    "values",
    [{"nmuber": 1.0}, {"number": "1"}, {"number": True}, {"number": float("nan")}, {"number": float("inf")},
     {"count": 1.0}, {"count": "1"}, {"count": True}, {"span": (1.0,)}, {"span": "01"}, {"span": (0.0, "1")}],
)  # fmt: skip
def test_settings_refuse_what_is_not_exactly_meant(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Some(**values)  # type: ignore[arg-type]


def test_settings_take_whole_numbers_for_numbers_and_lists_for_ranges() -> None:
    some = Some(number=3, span=[1, 2.5])  # type: ignore[arg-type]
    assert some.number == 3.0
    assert some.span == (1.0, 2.5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Some().count = 2  # type: ignore[misc]


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


def test_recipe_text_is_text() -> None:
    text = RecipeText("box", Path("/a"))
    assert text == "box"
    assert hash(text) == hash("box")
    assert text.folder == Path("/a")


def test_noise_is_chosen_by_use() -> None:
    class Plain(OperatorSettings):
        """Plain."""

        name = "plain"

        def build(self, *, shape, seed, device): ...  # type: ignore[no-untyped-def, override]

    assert Plain().noise == GaussianNoiseSettings(sigma=0.05)
    noise = read_section("noise", {"use": "poisson", "peak": 20.0})
    assert Plain(noise=noise).noise == Poisson(peak=20.0)  # type: ignore[arg-type]
    assert not Plain().per_image
    built = noise.build()
    assert (built.peak, built.black) == (20.0, -1.0)  # type: ignore[attr-defined]
    assert GaussianNoiseSettings(sigma=0.2).build().dispersion == pytest.approx(0.04)


def test_a_summary_is_the_first_line_of_the_own_docstring() -> None:
    class Long(KernelSettings):
        """First line.

        More.
        """

    class Silent(Long):
        pass

    assert Long.summary() == "First line."
    assert Silent.summary() == ""


def test_members_of_an_annotation() -> None:
    assert members(int | None) == [int, type(None)]
    assert members(FilePath) == [Path]
    assert members(FilePath | int) == [Path, int]


def test_paths_that_cannot_be(tmp_path, monkeypatch):
    adapter = TypeAdapter(FilePath)
    for value, message in (
        ("~nobody-at-all/y.npy", "no such home folder"),
        ("x" * 5000, "File name too long"),
        ("y\0.npy", "null"),
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
