"""Recipes that stand for many runs: their points, and what is wrong with them in its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe
from daps_kit.recipe.sweep import Range, Search, Sweep, load_sweep

BODY = """format: 1
data: {use: prior, count: 2, image_shape: [1, 8, 8]}
prior: {use: gaussian, mean: 0.0, std: 0.4}
operator: {use: identity, noise: {use: gaussian, sigma: 0.2}}
"""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str, multirun: bool = False):
        Path("s.yaml").write_text(BODY + text)
        return load_sweep("s.yaml", overrides, multirun=multirun)

    return load


def labels(found) -> list[str]:
    assert isinstance(found, Sweep)
    return [point.label for point in found.points]


def test_a_grid_is_every_combination(read, tmp_path) -> None:
    found = read("sweep: {sampler.budget: [fast, 20], seed: [1, 2, 3]}\n")
    assert labels(found) == [f"budget={b},seed={s}" for b in ("fast", 20) for s in (1, 2, 3)]
    recipe = found.points[4].recipes[0]
    assert (recipe.sampler.budget, recipe.seed) == (20, 2)
    assert recipe.output == tmp_path / "results/s/budget=20,seed=2"
    assert recipe.name == "s/budget=20,seed=2"
    nested = read("sweep: {operator: {noise.sigma: [0.1, 0.2]}, seed: [1, 1]}\n")
    assert labels(nested) == ["sigma=0.1,seed=1", "sigma=0.2,seed=1"]
    assert read("") is None


def test_the_command_line_varies_and_fixes(read) -> None:
    assert labels(read("", "seed=1,2", "widen=1.5", multirun=True)) == ["seed=1", "seed=2"]
    assert read("", "metrics=[lpips_vgg,fid]", multirun=True) is None
    both = read("sweep: {seed: [1, 2], widen: [1.0, 2.0]}\n", "seed=7,8", "widen=1.5", multirun=True)
    assert labels(both) == ["seed=7", "seed=8"]
    assert both.points[0].recipes[0].widen == 1.5
    assert read("sweep: {seed: [1, 2]}\n", "seed=3") is None
    tasks = read("tasks: {a: {}, b: {runs: 3}}\n", "seed=1,2", multirun=True)
    assert [[each.name for each in point.recipes] for point in tasks.points] == [
        [f"s/seed={seed}/{task}" for task in "ab"] for seed in (1, 2)
    ]


def test_random_points_are_drawn_from_the_seed(read) -> None:
    text = "sweep: {use: random, count: %d, sampler.budget: [fast, 20], operator.noise.sigma: {low: 0.01, high: 1, log: true}}\n"
    few, many = read(text % 3), read(text % 40)
    assert labels(many)[:3] == labels(few)
    sigmas = [point.values["operator.noise.sigma"] for point in many.points]
    assert all(0.01 <= sigma <= 1 for sigma in sigmas)
    assert 10 < sum(sigma < 0.1 for sigma in sigmas) < 30  # half of them, by the logarithm
    assert labels(read(text % 3, "seed=1")) != labels(few)
    assert len(read("sweep: {use: random, count: 50, seed: [1, 2, 3]}\n").points) == 3


def test_whole_numbers_of_a_range_are_equally_likely() -> None:
    found = [Range(low=1, high=4).at((i + 0.5) / 400) for i in range(400)]
    assert [found.count(number) for number in (1, 2, 3, 4)] == [100] * 4
    assert Range(low=0.1, high=10.0, log=True).at(0.5) == pytest.approx(math.sqrt(0.1 * 10.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: {sampler.bugdet: [1]}", "s.yaml:5:9: sampler.bugdet: unknown key; .*did you mean 'budget'"),
        ("sweep: {seed: [1, x]}", "s.yaml:5:19: seed: expected a whole number, got 'x'"),
        ("sweep: {seed: 1}", r"s.yaml:5:15: sweep.seed: expected a list of values, such as \[1, 2\], got 1"),
        ("sweep: [1]", "s.yaml:5:8: sweep: expected settings with lists of values"),
        ("sweep: {widen: {low: 1, high: 2}}", "s.yaml:5:16: sweep.widen: a grid takes lists of values"),
        ("sweep: {use: randm, seed: [1]}", "s.yaml:5:14: sweep.use: .*did you mean 'random'"),
        ("sweep: {use: random, seed: [1]}", "sweep.count: is missing"),
        ("sweep: {use: random, count: 0, seed: [1]}", "s.yaml:5:29: sweep.count: expected a whole number"),
        ("sweep: {count: 2, seed: [1]}", "sweep.count: a grid has no count"),
        ("sweep: {}", "sweep: expected at least one setting"),
        ("sweep: {use: random, count: 2, widen: {low: 2, high: 1}}", "low, 2, has to be less than high, 1"),
        (f"sweep: {{seed: {list(range(200))}, runs: {list(range(1, 99))}}}", "19600 points; at most 10000"),
        ("search: {objective: a, direction: up, trials: 2, ranges: {seed: [1]}}", "s.yaml:5:35: search.direction"),
        ("search: {objective: a, direction: minimize, trials: 2, ranges: {widen: {lwo: 1, high: 2}}}",
         "search.ranges.widen.lwo: unknown key; .*did you mean 'low'"),
        ("search: {objective: a, direction: minimize, trials: 2}", "search.ranges: is missing"),
        ("search: 3", "search: expected a section"),
        ("sweep: {seed: [1]}\nsearch: {}", "search: a recipe has a sweep or a search, not both"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_its_place(read, text, message) -> None:
    with pytest.raises(RecipeError, match=message):
        read(text + "\n")


def test_a_search_is_checked_at_its_ends(read) -> None:
    text = "search: {objective: a, direction: minimize, trials: 2, ranges: {sampler.budget: [fast, 20], widen: %s}}\n"
    found = read(text % "{low: 1.0, high: 2.0}")
    assert isinstance(found, Search)
    assert [point.label for point in found.ends()] == [
        "budget=fast,widen=1.0", "budget=20,widen=1.0", "budget=fast,widen=2.0",
    ]  # fmt: skip
    assert found.at("trial-000", {"sampler.budget": "20", "widen": 1.5}).recipes[0].sampler.budget == 20
    with pytest.raises(RecipeError, match="widen: "):
        read(text % "{low: -1.0, high: 2.0}").ends()


def test_other_commands_say_who_takes_it(read) -> None:
    read("sweep: {seed: [1]}\n")
    with pytest.raises(RecipeError, match="s.yaml:5:1: sweep: the recipe stands for many runs"):
        load_recipe("s.yaml")
