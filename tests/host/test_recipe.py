"""Recipes: reading, composing, overriding, resolving."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator
from recipe_text import MINIMAL, load, problems, write

import daps_kit
from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe, resolved_yaml, to_yaml
from daps_kit.recipe.data import ImagesData, PriorData
from daps_kit.recipe.document import installed_recipes
from daps_kit.recipe.sections import read_section
from daps_kit.registry import Registry, default_registry
from daps_kit.settings import FilePath, KernelSettings, SamplerSettings, Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what is right -----------------------------------------------------------------------------------------------


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


class Anything(KernelSettings):
    """Takes whatever is written, to see how it was read."""

    name = "anything"
    x: object = Field(None, description="anything")

    def build(self): ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry.discover(third_parties=False)
    registry.add(Anything, Holder)
    return registry


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


def test_a_section_without_use_changes_the_default() -> None:
    recipe = load(MINIMAL, "sampler.kernel.tau=0.09", "operator.noise.sigma=0.1")
    assert recipe.sampler.kernel.tau == 0.09  # type: ignore[attr-defined]
    assert recipe.operator.noise.sigma == 0.1  # type: ignore[union-attr]


class Holder(SamplerSettings):
    """Has a default kernel with values of its own, kernels in lists, and a rule for all of it."""

    name = "holder"
    kernel: KernelSettings = Field(Anything(x=3), description="a kernel")
    others: tuple[KernelSettings, ...] = Field((), description="more kernels")
    table: dict[str, KernelSettings] = Field({}, description="kernels by name")
    file: FilePath | None = Field(None, description="a file")
    low: int = Field(0, description="low")
    mode: Literal["box", "random"] | FilePath = Field("box", description="a word or a file")
    numbers: int | tuple[int, int] = Field(1, description="one or two")

    @model_validator(mode="after")
    def _rule(self) -> Holder:
        if self.low > 5:
            raise ValueError("low must not be above 5")
        return self

    def build(self): ...


def test_components_at_any_depth(registry: Registry) -> None:
    recipe = load(
        MINIMAL + "sampler:\n  use: holder\n  others: [{use: anything, x: 1}, {use: langevin}]\n"
        "  table: {a: {use: anything, x: [q]}}\n  kernel: {}\n", registry=registry,
    )  # fmt: skip
    langevin = registry.find("kernel", "langevin").settings()
    expected = Holder(others=(Anything(x=1), langevin), table={"a": Anything(x=["q"])})
    assert recipe.sampler == expected
    assert recipe.sampler.kernel.x == 3  # type: ignore[attr-defined]
    again = load_recipe(write("again.yaml", resolved_yaml(recipe, registry=registry)), registry=registry)
    assert again == (recipe,)


def test_an_installed_recipe_by_name() -> None:
    (recipe,) = load_recipe("embedded/phase_retrieval")
    assert recipe.name == "phase_retrieval"
    (mine,) = load_recipe(write("mine.yaml", "extends: embedded/phase_retrieval\nruns: 2\n"))
    assert (mine.runs, mine.operator) == (2, recipe.operator)


def test_a_file_comes_before_an_installed_recipe() -> None:
    write("embedded/phase_retrieval", MINIMAL)
    assert load_recipe("embedded/phase_retrieval")[0].data == PriorData(count=2)


# --- overrides and tasks -----------------------------------------------------------------------------------------


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


# --- the resolved recipe and the installed ones ------------------------------------------------------------------


def test_the_resolved_recipe_says_everything(folder: Path) -> None:
    write("pictures/a.png", "")
    recipe = load(
        MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: pictures/*.png, size: [8, 9]}"),
        "seed=3",
    )
    text = resolved_yaml(recipe)
    head = [line for line in text.splitlines() if line.startswith("#")]
    version = daps_kit.__version__
    assert head == [
        f"# resolved by daps-kit {version}; run it again with: daps-kit run FILE",
        f"# prior gaussian: daps-kit {version}",
        f"# operator identity: daps-kit {version}",
        f"# sampler daps: daps-kit {version}",
        f"# kernel auto: daps-kit {version}",
    ]
    assert f"path: [{folder}/pictures/*.png]" in text
    assert f"output: {folder}/results/r" in text
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert load_recipe(write("copy.yaml", text)) == (recipe,)


RECIPES = installed_recipes()
RUNS = [name for name in RECIPES if not name.startswith("train/")]


def test_a_task_may_extend_a_part_of_its_own() -> None:
    write("part.yaml", "format: 1\noperator: {use: inpainting, mask: random}\nseed: 7\n")
    text = MINIMAL + "tasks:\n  plain: {}\n  holes: {extends: part.yaml, operator: {mask: box}, runs: 3}\n"
    plain, holes = load_recipe(write("r.yaml", text))
    assert (plain.operator.name, plain.seed) == ("identity", 0)
    assert (holes.operator.name, holes.seed, holes.runs) == ("inpainting", 7, 3)
    assert holes.operator.model_dump()["mask"] == "box"
    (missing,) = problems(MINIMAL + "tasks:\n  holes:\n    extends: gone.yaml\n")
    assert missing.startswith("r.yaml:7:14: extends: ")


def test_the_recipes_of_the_eight_tasks_are_there() -> None:
    tasks = {"phase_retrieval", "down_sampling", "inpainting_box", "inpainting_random", "gaussian_blur", "motion_blur",
             "nonlinear_blur", "high_dynamic_range"}  # fmt: skip
    assert {f"embedded/{task}" for task in tasks} <= set(RUNS)
    files = [
        file for file in (Path(__file__).parents[2] / "recipes").rglob("*.yaml") if "parts" not in file.parts
    ]
    assert len(files) == len(RECIPES) or not files


@pytest.mark.parametrize("name", RUNS)
def test_an_installed_recipe_is_valid_and_resolves_to_itself(name: str) -> None:
    recipes = load_recipe(name)
    assert len(recipes) >= 1
    for recipe in recipes:
        assert load_recipe(write("again.yaml", resolved_yaml(recipe))) == (recipe,)


# --- sections from Python ----------------------------------------------------------------------------------------


def test_a_section_from_python() -> None:
    kernel = read_section("kernel", {"use": "langevin", "steps": 3})
    assert kernel.steps == 3  # type: ignore[attr-defined]
    assert read_section("kernel", kernel) is kernel
    sampler = read_section("sampler", {"use": "daps", "kernel": kernel})
    assert sampler.kernel is kernel  # type: ignore[attr-defined]
    with pytest.raises(RecipeError) as caught:
        read_section("sampler", {"use": "daps", "kernel": {"use": "langevin", "steps": 0}, "levels": 3})
    first, second = str(caught.value).splitlines()
    assert first == "sampler.kernel.steps: expected at least 1, got 0"
    assert second.startswith("sampler.levels: unknown key; allowed: use, budget, ")
    with pytest.raises(RecipeError, match="expected settings of a prior, got Langevin"):
        read_section("prior", kernel)
    with pytest.raises(RecipeError, match="kernel: 'use' is missing"):
        read_section("kernel", {})


def test_settings_refuse_nested_models_that_are_not_known() -> None:
    class Inner(Settings):
        x: int = 3

    with pytest.raises(RecipeError, match="expected settings of a kernel, got Inner"):
        read_section("kernel", Inner())  # type: ignore[arg-type]
