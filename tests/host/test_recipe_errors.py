"""Wrong recipes: the words and the places of everything that can be wrong, all at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator
from recipe_text import MINIMAL, load, problems, write

from daps_kit.errors import ComponentError, RecipeError, UserError
from daps_kit.recipe import load_recipe
from daps_kit.registry import Registry
from daps_kit.settings import FilePath, KernelSettings, SamplerSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


class Holder(SamplerSettings):
    """Has a default kernel with values of its own, kernels in lists, and a rule for all of it."""

    name = "holder"
    kernel: KernelSettings = Field(Anything(x=3), description="a kernel")
    others: tuple[KernelSettings, ...] = Field((), description="more kernels")
    table: dict[str, KernelSettings] = Field({}, description="kernels by name")
    file: FilePath | None = Field(None, description="a file")
    spare: KernelSettings | None = Field(None, description="a kernel, if any")
    word: str = Field("a", pattern="^[a-z]+$", description="a word")
    low: int = Field(0, description="low")
    mode: Literal["box", "random"] | FilePath = Field("box", description="a word or a file")
    numbers: int | tuple[int, int] = Field(1, description="one or two")

    @model_validator(mode="after")
    def _rule(self) -> Holder:
        if self.low > 5:
            raise ValueError("low must not be above 5")
        if self.low < -5:
            raise ComponentError("low must not be below -5")
        return self

    def build(self): ...


def test_everything_wrong_is_found_at_once() -> None:
    text = """\
format: 2
data: {use: image, path: nowhere.png}
prior:
  use: gausian
operator:
  use: gaussian_blur
  kernel_sise: 5
  intensity: -1
  noise: {use: gaussian, sigma: wide}
sampler:
  use: daps
  annealing: {use: edm, levels: 2.5}
  kernel:
    use: langevin
    steps: 0
    lr: high
runs: 0
"""
    found = problems(text, "seed=-1", "device=gpu 0")
    prior, rest = found[2], found[:2] + found[3:]
    assert rest == [
        "r.yaml:1:9: format: expected 1, got 2",
        "r.yaml:2:13: data.use: expected 'images', 'prior' or 'measurement', got 'image'; did you mean 'images'?",
        "r.yaml:7:3: operator.kernel_sise: unknown key; allowed: use, noise, kernel_size, intensity; did you mean 'kernel_size'?",
        "r.yaml:8:14: operator.intensity: expected more than 0, got -1",
        "r.yaml:9:33: operator.noise.sigma: expected a number, got 'wide'",
        "r.yaml:12:33: sampler.annealing.levels: expected a whole number, got 2.5",
        "r.yaml:15:12: sampler.kernel.steps: expected at least 1, got 0",
        "r.yaml:16:9: sampler.kernel.lr: expected a number or 'auto', got 'high'",
        "r.yaml:17:7: runs: expected at least 1, got 0",
        "override 'seed=-1': seed: expected at least 0, got -1",
        "override 'device=gpu 0': device: expected auto, cpu, cuda, cuda:1 or the like, got 'gpu 0'",
    ]
    assert prior.startswith("r.yaml:4:8: prior.use: unknown prior 'gausian'; there are ")
    assert prior.endswith("; did you mean 'gaussian'?")


ONE_PROBLEM = [
        ("", "r.yaml:1:1: the file is empty; a recipe has keys such as format, data, prior"),
        ("# only a comment\n", "r.yaml:1:1: the file is empty; a recipe has keys such as format, data, prior"),
        ("- a\n", "r.yaml:1:1: the file is not a mapping; a recipe has keys such as format, data, prior"),
        (MINIMAL + "runs: 1\nruns: 2\n", "r.yaml:6:1: the key 'runs' is written twice (first in line 5)"),
        (MINIMAL + "1: 2\n", "r.yaml:5:1: a key must be text; quote it if it is meant: '1'"),
        (MINIMAL + "<<: {runs: 2}\n", "r.yaml:5:1: merge keys (<<) are not supported; `extends` joins recipes"),
        (MINIMAL + "runs: !!int 3\n", "r.yaml:5:7: tags (!) are not allowed; write the plain value"),
        (MINIMAL + "runs: !!python/object/apply:os.system [id]\n", "r.yaml:5:7: tags (!) are not allowed; write the plain value"),
        (MINIMAL + "data: &a {x: *a}\n", "r.yaml:5:1: the key 'data' is written twice (first in line 2)"),
        (MINIMAL + "operator: [\n", "r.yaml:6:1: not valid YAML: expected the node content, but found '<stream end>' (while parsing a flow node)"),
        (MINIMAL + "\truns: 1\n", "r.yaml:5:1: not valid YAML: found character '\\t' that cannot start any token (while scanning for the next token)"),
        (MINIMAL + "---\nruns: 1\n", "r.yaml:5:1: not valid YAML: but found another document (expected a single document in the stream)"),
        (MINIMAL + "rusn: 1\n", "r.yaml:5:1: rusn: unknown key; allowed: format, name, data, prior, operator, sampler, runs, seed, "
         "batch_size, device, check_prior, metrics, trajectory, output; did you mean 'runs'?"),
        (MINIMAL + "runs: true\n", "r.yaml:5:7: runs: expected a whole number, got true"),
        (MINIMAL + "runs: '3'\n", "r.yaml:5:7: runs: expected a whole number, got '3'"),
        (MINIMAL + "runs:\n", "r.yaml:5:6: runs: expected a whole number, got null"),
        (MINIMAL + "batch_size: 0\n", "r.yaml:5:13: batch_size: expected at least 1 or 'auto', got 0"),
        (MINIMAL + "batch_size: aut\n", "r.yaml:5:13: batch_size: expected a whole number or 'auto', got 'aut'; did you mean 'auto'?"),
        (MINIMAL + "sampler: daps\n", "r.yaml:5:10: sampler: expected a section of settings such as {use: ...}, got 'daps'"),
        (MINIMAL + "sampler: {use: 3}\n", "r.yaml:5:16: sampler.use: expected a name, got 3"),
        (MINIMAL + "sampler: {use: daps, kernel: {steps: 3, use: [x]}}\n", "r.yaml:5:46: sampler.kernel.use: expected a name, got [\"x\"]"),
        (MINIMAL.replace("{use: identity}", "{noise: {use: gaussian}}"), "r.yaml:4:1: operator: 'use' is missing; it is ..."),
        (MINIMAL.replace("prior: {use: gaussian}\n", ""), "r.yaml:1:1: prior: is missing: the diffusion prior"),
        (MINIMAL.replace("format: 1\n", ""), "r.yaml:1:1: format: is missing: version of the format of recipes"),
        (MINIMAL.replace(", count: 2", ""), "r.yaml:2:1: data.count: is missing: how many images to draw"),
        (MINIMAL.replace("identity}", "inpainting, mask_len_range: [1, 2.5]}"), "r.yaml:4:49: operator.mask_len_range.1: expected a whole number, got 2.5"),
        (MINIMAL.replace("identity}", "inpainting, mask_len_range: [1]}"), "r.yaml:4:45: operator.mask_len_range: expected a longer list, got [1]"),
        (MINIMAL.replace("identity}", "inpainting, mask_len_range: 3}"), "r.yaml:4:45: operator.mask_len_range: expected a list, got 3"),
        (MINIMAL.replace("identity}", "identity, noise: {use: gauss, sigma: 1}}"),
         "r.yaml:4:40: operator.noise.use: expected 'gaussian' or 'poisson', got 'gauss'; did you mean 'gaussian'?"),
        (MINIMAL.replace("identity}", "identity, noise: {sigma: .inf}}"), "r.yaml:4:42: operator.noise.sigma: expected a finite number, got Infinity"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: no/*.png}"), "r.yaml:2:27: data.path: no image matches {cwd}/no/*.png"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: no.png}"), "r.yaml:2:27: data.path: no such file or folder: {cwd}/no.png"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: .}"), "r.yaml:2:27: data.path: no image in the folder {cwd}; images are .bmp, ..."),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: measurement, path: y.npy}"), "r.yaml:2:32: data.path: no such file: {cwd}/y.npy"),
        ("extends: base.yml\n" + MINIMAL, "r.yaml:1:10: extends: no such file: base.yml"),
        ("extends: [{a: 1}]\n" + MINIMAL, "r.yaml:1:11: extends: expected a file or a list of files"),
        ("extends: r.yaml\n" + MINIMAL, "r.yaml:1:10: extends: r.yaml extends itself, in a circle"),
        ("extends: .\n" + MINIMAL, "r.yaml:1:10: extends: . is a folder, not a recipe"),
        ("extends: embeded/motion_blur\n" + MINIMAL, "r.yaml:1:10: extends: no recipe 'embeded/motion_blur': no file, and not one of the installed: ..."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM)
def test_one_problem(text: str, expected: str) -> None:
    (found,) = problems(text)
    expected = expected.replace("{cwd}", os.getcwd())
    assert found.startswith(expected[:-3]) if expected.endswith("...") else found == expected


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


def test_rules_between_settings(registry: Registry) -> None:
    body = MINIMAL + "sampler:\n  use: holder\n  low: 9\n"
    assert problems(body, registry=registry) == ["r.yaml:5:1: sampler: low must not be above 5"]
    body = MINIMAL + "sampler:\n  use: holder\n  low: -9\n"
    assert problems(body, registry=registry) == ["r.yaml:5:1: sampler: low must not be below -5"]
    body = (
        MINIMAL
        + "sampler:\n  use: holder\n  others: [{use: langevin, steps: 0}, {use: langevim}]\n  kernel: null\n  file: x.npy\n"
    )
    found = problems(body, registry=registry)
    assert found[0] == "r.yaml:7:35: sampler.others.0.steps: expected at least 1, got 0"
    assert found[1].startswith("r.yaml:7:45: sampler.others.1.use: unknown kernel 'langevim'; ")
    assert (
        found[2]
        == "r.yaml:8:11: sampler.kernel: expected a section of settings such as {use: ...}, got nothing"
    )
    assert found[3] == f"r.yaml:9:9: sampler.file: no such file: {os.getcwd()}/x.npy"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "mode: bux",
            "9: sampler.mode: expected 'box' or 'random', got 'bux'; no such file: {cwd}/bux; did you mean 'box'?",
        ),
        ("mode: 3", "9: sampler.mode: expected 'box', 'random' or a path, got 3"),
        ("numbers: [1, x]", "16: sampler.numbers.1: expected a whole number, got 'x'"),
        ("numbers: x", "12: sampler.numbers: expected a whole number or a list, got 'x'"),
        (
            "numbers: [1, 2, 3]",
            "12: sampler.numbers: expected a whole number or at most 2 items, not 3, got [1, 2, 3]",
        ),
        ("low: {a: 1}", "8: sampler.low: expected a whole number, got a section of settings"),
        ("word: A1", "9: sampler.word: expected text of the form ^[a-z]+$, got 'A1'"),
        ("others: 3", "11: sampler.others: expected a list, got 3"),
        ("kernel: [1]", "11: sampler.kernel: expected a section of settings such as {use: ...}, got [1]"),
        ("table: [1]", "10: sampler.table: expected a section of settings, got [1]"),
    ],
)
def test_a_value_that_fits_no_alternative(setting: str, expected: str, registry: Registry) -> None:
    expected = f"r.yaml:7:{expected}".replace("{cwd}", os.getcwd())
    assert problems(MINIMAL + f"sampler:\n  use: holder\n  {setting}\n", registry=registry) == [expected]


def test_a_section_may_be_null_where_there_may_be_none(registry: Registry) -> None:
    recipe = load(MINIMAL + "sampler: {use: holder, spare: null}\n", registry=registry)
    assert recipe.sampler == Holder()
    recipe = load(MINIMAL + "sampler: {use: holder, spare: {use: anything}}\n", registry=registry)
    assert recipe.sampler.spare == Anything()  # type: ignore[attr-defined]


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


def test_an_override_of_a_task_that_is_not_there() -> None:
    found = problems(MINIMAL + "tasks: {box: {seed: 1}}\n", "tasks.boxx.seed=3")
    assert found == [
        "override 'tasks.boxx.seed=3': tasks.boxx: unknown task; there are box; did you mean 'box'?"
    ]
    assert problems(MINIMAL, "tasks.box.seed=3") == [
        "override 'tasks.box.seed=3': tasks.box: unknown task; there are none"
    ]
