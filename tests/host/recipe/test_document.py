"""Text becomes nodes with places: scalars of YAML 1.2, anchors, and files that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe, to_yaml
from daps_kit.registry import Registry
from tests.recipe_text import MINIMAL, load, problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1.5E+2", -150.0), ("+3", 3), ("-0", 0),
        ("0o17", 15), ("0x1F", 31), ("017", 17), ("1_000", "1_000"), ("12:30", "12:30"), ("1e", "1e"),
        ("true", True), ("False", False), ("on", "on"), ("yes", "yes"), ("No", "No"), ("off", "off"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("'5e-5'", "5e-5"), ('"true"', "true"), ("2024-01-02", "2024-01-02"),
        ("a b", "a b"), ("[1, 2e0, x]", [1, 2.0, "x"]), ("{a: 1, b: [~]}", {"a": 1, "b": [None]}), (".inf", float("inf")),
        ("-.inf", -float("inf")), ("!x", "error"), ("e5", "e5"), (".", "."), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object, registry: Registry) -> None:
    body = MINIMAL + f"sampler:\n  kernel:\n    use: anything\n    x: {text}\n"
    if value == "error":
        assert problems(body, registry=registry) == [
            "r.yaml:8:8: tags (!) are not allowed; write the plain value"
        ]
        return
    read = load(body, registry=registry).sampler.kernel.x  # type: ignore[attr-defined]
    assert read == value
    assert type(read) is type(value) or isinstance(value, str)
    back = load(
        MINIMAL + f"sampler: {{kernel: {{use: anything, x: {to_yaml(value, flow=True)}}}}}", registry=registry
    )
    assert back.sampler.kernel.x == value  # type: ignore[attr-defined]


def test_anchors_work() -> None:
    recipe = load(
        "format: 1\ndata: {use: prior, count: &n 2}\nprior: {use: gaussian}\noperator: {use: identity}\nruns: *n\n"
    )
    assert recipe.runs == 2


def test_an_alias_that_contains_itself() -> None:
    found = problems(MINIMAL + "sampler: &a {use: daps, kernel: *a}\n")
    assert "r.yaml:5:10: this alias contains itself" in found


def test_files_that_are_no_text() -> None:
    Path("bin.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(RecipeError, match=r"^bin.yaml: not a text file in UTF-8$"):
        load_recipe("bin.yaml")
    Path("nul.yaml").write_bytes(b"a: \x00")
    with pytest.raises(RecipeError, match=r"^nul.yaml: not valid YAML: unacceptable character"):
        load_recipe("nul.yaml")
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe("bom.yaml")[0].name == "bom"
