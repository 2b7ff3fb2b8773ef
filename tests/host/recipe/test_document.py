"""Text becomes nodes with places: scalars of YAML 1.2, anchors, `extends`, paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import RecipeError, UserError
from daps_kit.recipe import load_recipe, to_yaml
from daps_kit.recipe.data import PriorData
from daps_kit.registry import Registry, default_registry
from tests.recipe_text import MINIMAL, load, problems, write


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


def test_extends_joins_sections_and_later_keys_win() -> None:
    write(
        "base.yaml",
        MINIMAL + "runs: 2\nseed: 5\nsampler: {use: daps, kernel: {use: langevin, steps: 7, lr: 1e-5}}\n",
    )
    write("more.yaml", "seed: 6\nsampler: {kernel: {steps: 8}}\n")
    recipe = load("extends: [base.yaml, more.yaml]\nruns: 3\n")
    kernel = recipe.sampler.kernel  # type: ignore[attr-defined]
    assert (recipe.runs, recipe.seed, kernel.steps, kernel.lr) == (3, 6, 8, 1e-5)


def test_a_section_that_uses_something_else_replaces_the_inherited_one() -> None:
    write("base.yaml", MINIMAL + "sampler: {use: daps, kernel: {use: langevin, steps: 7, lr: 1e-5}}\n")
    kernel = load("extends: base.yaml\nsampler: {kernel: {use: underdamped}}\n").sampler.kernel  # type: ignore[attr-defined]
    assert kernel == default_registry().find("kernel", "underdamped").settings()
    kernel = load(
        "extends: base.yaml\n", "sampler.kernel.use=underdamped", "sampler.kernel.steps=9"
    ).sampler.kernel  # type: ignore[attr-defined]
    assert kernel == default_registry().find("kernel", "underdamped").settings(steps=9)


def test_an_installed_recipe_by_name() -> None:
    (recipe,) = load_recipe("embedded/phase_retrieval")
    assert recipe.name == "phase_retrieval"
    (mine,) = load_recipe(write("mine.yaml", "extends: embedded/phase_retrieval\nruns: 2\n"))
    assert (mine.runs, mine.operator) == (2, recipe.operator)


def test_a_file_comes_before_an_installed_recipe() -> None:
    write("embedded/phase_retrieval", MINIMAL)
    assert load_recipe("embedded/phase_retrieval")[0].data == PriorData(count=2)


def test_a_task_may_extend_a_part_of_its_own() -> None:
    write("part.yaml", "format: 1\noperator: {use: inpainting, mask: random}\nseed: 7\n")
    text = MINIMAL + "tasks:\n  plain: {}\n  holes: {extends: part.yaml, operator: {mask: box}, runs: 3}\n"
    plain, holes = load_recipe(write("r.yaml", text))
    assert (plain.operator.name, plain.seed) == ("identity", 0)
    assert (holes.operator.name, holes.seed, holes.runs) == ("inpainting", 7, 3)
    assert holes.operator.model_dump()["mask"] == "box"
    (missing,) = problems(MINIMAL + "tasks:\n  holes:\n    extends: gone.yaml\n")
    assert missing.startswith("r.yaml:7:14: extends: ")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("runs", "override 'runs': expected KEY=VALUE with a key such as sampler.kernel.steps"),
        ("=3", "override '=3': expected KEY=VALUE with a key such as sampler.kernel.steps"),
        ("a..b=3", "override 'a..b=3': expected KEY=VALUE with a key such as sampler.kernel.steps"),
        ("extends=x", "override 'extends=x': extends: extends belongs in a file"),
        ("runs=[1", "override 'runs=[1': not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"),
        ("runs.x=1", "override 'runs.x=1': runs.x: there is no 'x' inside 1, which is not a section"),
        ("data.count=x", "override 'data.count=x': data.count: expected a whole number, got 'x'"),
        ("operator.nosie.sigma=1", "override 'operator.nosie.sigma=1': operator.nosie: unknown key; allowed: use, noise; did you mean 'noise'?"),
        ("data={use: prior, count: 1, count: 2}", "override 'data={use: prior, count: 1, count: 2}': the key 'count' is written twice"),
    ],
)  # fmt: skip
def test_wrong_overrides(override: str, expected: str) -> None:
    assert problems(MINIMAL + "runs: 1\n", override) == [expected]


def test_wrong_index_of_a_list() -> None:
    body = MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: [a.png]}")
    write("a.png", "")
    assert problems(body, "data.path.1=b") == [
        "override 'data.path.1=b': data.path.1: '1' is not an index of a list of 1, counted from 0"
    ]


def test_a_problem_in_a_base_points_there() -> None:
    write("deep/base.yaml", MINIMAL + "runs: -1\n")
    write("deep/r.yaml", "extends: base.yaml\nseed: x\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("deep/r.yaml")
    assert sorted(str(caught.value).splitlines()) == [
        "deep/base.yaml:5:7: runs: expected at least 1, got -1",
        "deep/r.yaml:2:7: seed: expected a whole number, got 'x'",
    ]


def test_an_alias_that_contains_itself() -> None:
    found = problems(MINIMAL + "sampler: &a {use: daps, kernel: *a}\n")
    assert "r.yaml:5:10: this alias contains itself" in found


def test_a_circle_through_another_file() -> None:
    write("a.yaml", "extends: b.yaml\n" + MINIMAL)
    write("b.yaml", "extends: [a.yaml]\n")
    with pytest.raises(RecipeError, match=r"^b.yaml:1:11: extends: a.yaml extends itself, in a circle$"):
        load_recipe("a.yaml")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("no.yaml", "no such file: no.yaml"),
        ("mine.yam", "no recipe 'mine.yam': no file, and not one of the installed: "),
        ("embedded/phase_retrival", "did you mean 'embedded/phase_retrieval'"),
        (".", ". is a folder, not a recipe"),
    ],
)
def test_recipes_that_are_not_there(recipe: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe)
    assert expected in str(caught.value)


def test_a_near_file_is_suggested() -> None:
    write("mine.yaml", MINIMAL)
    with pytest.raises(UserError, match=r"no such file: mime.yaml; did you mean 'mine.yaml'\?"):
        load_recipe("mime.yaml")


def test_files_that_are_no_text() -> None:
    Path("bin.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(RecipeError, match=r"^bin.yaml: not a text file in UTF-8$"):
        load_recipe("bin.yaml")
    Path("nul.yaml").write_bytes(b"a: \x00")
    with pytest.raises(RecipeError, match=r"^nul.yaml: not valid YAML: unacceptable character"):
        load_recipe("nul.yaml")
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe("bom.yaml")[0].name == "bom"
