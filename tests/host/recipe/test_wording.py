"""Wrong recipes: the words and the places of everything that can be wrong, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daps_kit.registry import Registry
from tests.recipe_text import MINIMAL, problems


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
        "r.yaml:7:3: operator.kernel_sise: unknown key; allowed: use, noise, kernel_size, intensity, boundary; did you mean 'kernel_size'?",
        "r.yaml:8:14: operator.intensity: expected more than 0, got -1",
        f"r.yaml:9:33: operator.noise.sigma: expected a number or a list, got 'wide'; no such file: {Path.cwd()}/wide",
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
        (MINIMAL + "rusn: 1\n", "r.yaml:5:1: rusn: unknown key; allowed: format, name, plugins, data, prior, operator, sampler, runs, seed, "
         "batch_size, device, execution, store, check_prior, metrics, widen, trackers, trajectory, video, output; did you mean 'runs'?"),
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
         "r.yaml:4:40: operator.noise.use: unknown noise 'gauss'; there are gaussian, laplace, poisson, poisson_gaussian, student_t; did you mean 'gaussian'?"),
        (MINIMAL.replace("identity}", "identity, noise: {sigma: .inf}}"), "r.yaml:4:42: operator.noise.sigma: expected a finite number, a list or a path, got Infinity"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: no/*.png}"), "r.yaml:2:27: data.path: no image matches {cwd}/no/*.png"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: no.png}"), "r.yaml:2:27: data.path: no such file or folder: {cwd}/no.png"),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: .}"), "r.yaml:2:27: data.path: no image in the folder {cwd}; images are .bmp, ..."),
        (MINIMAL.replace("{use: prior, count: 2}", "{use: measurement, path: y.npy}"), "r.yaml:2:32: data.path: no such file: {cwd}/y.npy"),
        ("extends: base.yml\n" + MINIMAL, "r.yaml:1:10: extends: no such file: base.yml"),
        ("extends: [{a: 1}]\n" + MINIMAL, "r.yaml:1:11: extends: expected a file or a list of files"),
        ("extends: r.yaml\n" + MINIMAL, "r.yaml:1:10: extends: r.yaml extends itself, in a circle"),
        ("extends: .\n" + MINIMAL, "r.yaml:1:10: extends: . is a folder, not a recipe"),
        ("extends: embeded/motion_blur\n" + MINIMAL, "r.yaml:1:10: extends: no recipe 'embeded/motion_blur': no file, and not one of those that `daps-kit recipes` lists; did you mean 'embedded/motion_blur'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM)
def test_one_problem(text: str, expected: str) -> None:
    (found,) = problems(text)
    expected = expected.replace("{cwd}", os.getcwd())
    assert found.startswith(expected[:-3]) if expected.endswith("...") else found == expected


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
