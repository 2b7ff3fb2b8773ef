"""Recipes: reading, composing, overriding, resolving."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.data import PriorData
from daps_kit.registry import default_registry
from tests.recipe_text import MINIMAL, load, problems, write


def test_defaults(folder: Path) -> None:
    recipe = load(MINIMAL)
    assert recipe.name == "r"
    assert recipe.source == folder / "r.yaml"
    assert recipe.data == PriorData(count=2)
    assert type(recipe.prior) is default_registry().find("prior", "gaussian").settings
    assert type(recipe.operator) is default_registry().find("operator", "identity").settings
    assert recipe.sampler == default_registry().find("sampler", "daps").settings()
    assert (recipe.runs, recipe.seed, recipe.batch_size, recipe.device, recipe.trajectory) == (
        1,
        0,
        "auto",
        "auto",
        0,
    )
    assert recipe.output == folder / "results/r"
    assert load(MINIMAL + "name: null\noutput: null\n") == recipe


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(MINIMAL).runs = 3  # type: ignore[misc]


def test_equal_recipes_are_equal_whatever_their_source() -> None:
    assert load(MINIMAL) == load_recipe(write("other.yaml", MINIMAL), ["name=r", "output=results/r"])[0]
    assert load(MINIMAL) != load(MINIMAL, "seed=1")


def test_overrides() -> None:
    recipe = load(
        MINIMAL, "seed=7", "operator.use=inpainting", "operator.mask_len_range=[3, 4]", "output=some where/x",
        "operator.mask_len_range.1=5", "prior={use: gaussian, std: 1e-1}", "operator.margin=",
    )  # fmt: skip
    assert recipe.seed == 7
    assert recipe.operator.mask_len_range == (3, 5)  # type: ignore[attr-defined]
    assert recipe.prior.std == 0.1  # type: ignore[attr-defined]
    assert recipe.output == Path.cwd() / "some where/x"


def test_tasks_stand_for_several_recipes() -> None:
    text = MINIMAL + (
        "output: out\nsampler: {kernel: {use: langevin, steps: 5}}\ntasks:\n  plain:\n  box: {operator: {use: inpainting}, seed: 3}\n"
        "  noisy: {operator: {noise: {sigma: 0.5}}, sampler: {kernel: {lr: 1e-6}}}\n"
    )
    recipes = load_recipe(write("r.yaml", text), ["runs=2", "tasks.box.seed=4", "sampler.kernel.steps=6"])
    assert [r.name for r in recipes] == ["r/plain", "r/box", "r/noisy"]
    assert [r.output.relative_to(Path.cwd()).as_posix() for r in recipes] == [
        "out/plain",
        "out/box",
        "out/noisy",
    ]
    assert [r.seed for r in recipes] == [0, 4, 0]
    assert {r.runs for r in recipes} == {2}
    assert {r.sampler.kernel.steps for r in recipes} == {6}  # type: ignore[attr-defined]
    assert [r.operator.noise.sigma for r in recipes] == [0.05, 0.05, 0.5]  # type: ignore[union-attr]
    moved = load_recipe("r.yaml", ["output=there"])
    assert [r.output for r in moved] == [Path.cwd() / "there" / name for name in ("plain", "box", "noisy")]
    assert (
        load_recipe(write("x.yaml", "extends: r.yaml\noutput: out\nname: r\nruns: 2\nseed: 0\n"))[0].runs == 2
    )


def test_what_is_wrong_with_tasks() -> None:
    assert problems(MINIMAL + "tasks: 3\n") == [
        "r.yaml:5:1: tasks: expected a section with at least one named task"
    ]
    assert problems(MINIMAL + "tasks: {}\n") == [
        "r.yaml:5:1: tasks: expected a section with at least one named task"
    ]
    text = "format: 1\nprior: {use: gaussian}\nruns: 0\ntasks:\n  a: {seed: -1}\n  b: {data: {use: prior, count: 1}}\n  c/d: {}\n  e: 3\n"
    found = problems(text)
    assert sorted(line.split(": ")[0] + " " + line.split(": ")[1] for line in found) == [
        "r.yaml:3:7 runs",
        "r.yaml:5:13 seed",
        "r.yaml:5:3 data",
        "r.yaml:5:3 operator",
        "r.yaml:6:3 operator",
        "r.yaml:7:3 tasks.c/d",
        "r.yaml:8:3 tasks.e",
    ]


def test_tasks_and_names_stay_in_their_folder() -> None:
    found = problems(MINIMAL + 'tasks: {"..": {}, ".": {}, " ": {}, "": {}, "a/b": {}, fine: {}}\n')
    assert [line.partition(": ")[0] for line in found] == [f"r.yaml:5:{at}" for at in (9, 19, 28, 37, 45)]
    for name in ("..", "../../x", "a/..", "/x"):
        (line,) = problems(MINIMAL + f"name: {name}\n")
        assert line.startswith(f"r.yaml:5:7: name: '{name}' cannot be the name of a folder")
    found = problems(MINIMAL + f"name: {'n' * 300}\n")
    assert [line.split(": ")[:2] for line in found] == [["r.yaml:5:7", "name"], ["r.yaml:5:7", "output"]]


def test_an_override_of_a_task_that_is_not_there() -> None:
    found = problems(MINIMAL + "tasks: {box: {seed: 1}}\n", "tasks.boxx.seed=3")
    assert found == [
        "override 'tasks.boxx.seed=3': tasks.boxx: unknown task; there are box; did you mean 'box'?"
    ]
    assert problems(MINIMAL, "tasks.box.seed=3") == [
        "override 'tasks.box.seed=3': tasks.box: unknown task; there are none"
    ]


def test_a_working_folder_that_is_gone_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(write("r.yaml", MINIMAL)).absolute()
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for recipe in (path, "r.yaml"):
        with pytest.raises(UserError, match="the working folder cannot be used: No such file"):
            load_recipe(recipe)
