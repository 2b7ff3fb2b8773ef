"""A recipe laid over those it extends, and overrides over the recipe."""

from __future__ import annotations

import re

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import layers, load_recipe
from daps_kit.registry import default_registry
from tests.recipe_text import MINIMAL, load, problems, write


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


def test_a_circle_through_another_file() -> None:
    write("a.yaml", "extends: b.yaml\n" + MINIMAL)
    write("b.yaml", "extends: [a.yaml]\n")
    with pytest.raises(RecipeError, match=r"^b.yaml:1:11: extends: a.yaml extends itself, in a circle$"):
        load_recipe("a.yaml")


def test_files_that_extend_each_other_many_times_over() -> None:
    """Thirty files, each extending the next twice, stand for a billion; a chain of a thousand has no end either."""
    for name, times, count in (("twice", 2, 30), ("once", 1, 1000)):
        write(f"{name}{count}.yaml", MINIMAL)
        for index in range(count):
            write(f"{name}{index}.yaml", f"extends: [{', '.join([f'{name}{index + 1}.yaml'] * times)}]\n")
        found = problems(f"extends: {name}0.yaml\n")
        assert re.match(rf"{name}\d+.yaml:1:\d+: extends: more than 100 files", found[0]), found[0]
        assert sum("more than" in problem for problem in found) == 1


def test_large_files_are_not_read_many_times(monkeypatch) -> None:
    monkeypatch.setattr(layers, "VALUES", 50)
    write("large.yaml", MINIMAL + f"plugins: {list(range(30))}\n")
    found = problems("extends: [large.yaml, large.yaml, large.yaml, large.yaml]\n")
    assert found[0].startswith("r.yaml:1:35: extends: more than 100 files or 50 values"), found[0]
    assert sum("more than" in problem for problem in found) == 1
