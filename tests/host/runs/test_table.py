"""`daps-kit table`: results of every kind beside the published numbers, and what cannot be read."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import daps_kit
from daps_kit.command.main import main
from daps_kit.recipe import load_recipe, resolved_yaml
from daps_kit.runs.metrics import summarise


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["table", *arguments])


def records(psnr: list[float], **more: list[float]) -> dict[str, Any]:
    """The scores of an image, from the values of its samples; by hand, but for the residuals: rising with the run."""
    columns = {"psnr": psnr, "residual": [1.0 + i for i in range(len(psnr))], **more}
    samples = [
        {"run": run, **{key: values[run] for key, values in columns.items()}} for run in range(len(psnr))
    ]
    best = {key: min if key.startswith(("lpips", "fid")) else max for key in columns if key != "residual"}
    return {
        "reported": samples[0],
        "sample_mean": {key: sum(values) / len(values) for key, values in columns.items()},
        "posterior_mean": None,
        "oracle": {key: choose(columns[key]) for key, choose in best.items()},
        "samples": samples,
    }


def result(name: str, scores: list[dict[str, Any]], *overrides: str) -> Path:
    """Write what a finished run of an installed recipe leaves of recipe and metrics."""
    (recipe,) = load_recipe(name, [*overrides, f"output=results/{name}"])
    recipe.output.mkdir(parents=True)
    (recipe.output / "recipe.yaml").write_text(resolved_yaml(recipe))
    images = {f"face-{i}": each for i, each in enumerate(scores)}
    content = {"format": 1, "name": name, "summary": summarise(scores), "lost": [], "images": images}
    (recipe.output / "metrics.json").write_text(json.dumps(content))
    return recipe.output


def rows(file: str) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]


def test_one_run_stands_beside_the_published_number() -> None:
    result("ffhq256ddpm/down_sampling", [records([29.0], ssim=[0.8]), records([31.0], ssim=[0.9])])
    done = call("results", "--csv", "t.csv")
    assert (done.exit_code, done.stderr) == (0, "")
    head, _, row = cells(done.stdout)
    assert head[:8] == ["model", "task", "kernel", "calls", "images", "samples", "PSNR (dB)", "published"]
    # The standard error of 29 and 31 is sqrt(2) / sqrt(2).
    assert row[:8] == [
        "ffhq256ddpm",
        "down_sampling",
        "langevin",
        "1000",
        "2",
        "one run",
        "30.00 ± 1.00",
        "29.07",
    ]
    assert row[8:] == ["0.850 ± 0.050", "0.818", "", "0.177", "", "51.4"]
    assert "arXiv 2407.01521" in done.stdout
    assert "nobody can choose" not in done.stdout, "there is no oracle of one run"
    (line,) = rows("t.csv")
    assert float(line["psnr_standard_error"]) == pytest.approx(1.0)
    assert (line["psnr"], line["psnr_published"], line["lpips_piq"], line["lpips_piq_published"]) == (
        "30.0", "29.07", "", "0.177",
    )  # fmt: skip
    assert line["folder"] == "results/ffhq256ddpm/down_sampling"


def test_the_published_number_belongs_to_the_oracle_and_not_to_the_mean() -> None:
    result("ffhq256ddpm/phase_retrieval", [records([20.0, 30.0, 10.0, 12.0], lpips_piq=[0.3, 0.4, 0.2, 0.6])])
    done = call("results", "--csv", "t.csv")
    assert done.exit_code == 0
    found = {line["samples"]: line for line in rows("t.csv")}
    assert list(found) == ["a sample", "sample shown", "oracle"]
    assert [line["psnr"] for line in found.values()] == ["18.0", "20.0", "30.0"]
    assert [line["lpips_piq"] for line in found.values()] == ["0.375", "0.3", "0.2"]
    assert [line["psnr_published"] for line in found.values()] == ["", "", "30.63"]
    assert "4000 network calls" in done.stdout
    assert "nobody can choose" in done.stdout


def test_rows_come_in_the_papers_order_with_kernel_and_calls() -> None:
    for name in (
        "stable-diffusion-v1.5/motion_blur",
        "imagenet256ddpm/gaussian_blur",
        "ffhq256ldm/high_dynamic_range",
        "ffhq256ddpm/high_dynamic_range",
        "ffhq256ddpm/inpainting_random",
        "ffhq256ddpm/hmc/inpainting_random",
        "ffhq256ddpm/inpainting_box",
    ):
        result(name, [records([25.0])], "runs=1")
    done = call("results", "--csv", "t.csv")
    assert done.exit_code == 0
    hmc = "underdamped (published as hmc)"
    assert [row[:4] + row[6:8] for row in cells(done.stdout)[2:]] == [
        ["ffhq256ddpm", "inpainting_box", "langevin", "1000", "25.00", "24.07"],
        ["ffhq256ddpm", "inpainting_random", "langevin", "1000", "25.00", "31.12"],
        ["ffhq256ddpm", "inpainting_random", hmc, "1000", "25.00", "31.12"],
        ["ffhq256ddpm", "high_dynamic_range", "langevin", "1000", "25.00", "27.12"],
        ["imagenet256ddpm", "gaussian_blur", "langevin", "1000", "25.00", "26.15"],
        ["ffhq256ldm", "high_dynamic_range", hmc, "100", "25.00", "25.94"],
        ["stable-diffusion-v1.5", "motion_blur (other settings)", hmc, "100", "25.00", ""],
    ]
    assert "is not the published one" in done.stdout


def test_another_problem_has_no_published_number() -> None:
    result("ffhq256ddpm/gaussian_blur", [records([25.0])], "operator.intensity=2.0")
    result("ffhq256ddpm/down_sampling", [records([25.0])], "operator.noise.sigma=0.1")
    text = call("results").stdout
    assert [row[1] for row in cells(text)[2:]] == [
        "down_sampling (other settings)",
        "gaussian_blur (other settings)",
    ]
    assert "published:" not in text


def test_runs_of_the_users_own(toy: Any) -> None:
    """A real run, and a task that nobody published: they appear without a number, also where nothing has one."""
    made = daps_kit.run(toy(operator={"use": "identity"}), quiet=True)
    done = call(str(made.path), "--csv", "t.csv")
    assert done.exit_code == 0
    assert [row[:6] for row in cells(done.stdout)[2:]] == [
        ["gaussian", "identity", "langevin", "7", "3", choice]
        for choice in ("mean of 2 samples", "a sample", "sample shown", "oracle")
    ]
    summary = made.metrics["summary"]
    found = rows("t.csv")
    for row, choice in zip(found, ("posterior_mean", "sample_mean", "reported", "oracle"), strict=True):
        assert float(row["psnr"]) == summary[choice]["psnr"]["mean"]
        assert float(row["ssim_standard_error"]) == summary[choice]["ssim"]["standard_error"]
    assert math.isfinite(float(found[0]["residual"]))
    spread = {key: value["mean"] for key, value in summary["ensemble"].items()}
    assert spread["coverage_due"] == pytest.approx(1 / 3)
    assert {key: float(found[0][key]) for key in spread} == spread
    assert found[1]["crps"] == ""
    assert "published:" not in done.stdout


def test_folders_are_shown_where_results_look_alike(toy: Any) -> None:
    daps_kit.run(toy(runs=1, seed=1, output="results/a"), quiet=True)
    assert "folder" not in call("results").stdout
    daps_kit.run(toy(runs=1, seed=2, output="results/b"), quiet=True)
    table = cells(call("results").stdout)
    assert table[0][-1] == "folder"
    assert [row[-1] for row in table[2:]] == ["results/a", "results/b"]


def test_an_unfinished_run_is_left_out_and_said() -> None:
    done = result("ffhq256ddpm/down_sampling", [records([29.0])])
    begun = result("ffhq256ddpm/motion_blur", [records([29.0])])
    (begun / "metrics.json").unlink()
    told = call("results")
    assert told.exit_code == 0
    assert len(cells(told.stdout)) == 3
    assert told.stderr == "left out, for the run is not finished: results/ffhq256ddpm/motion_blur\n"
    assert call(str(done)).exit_code == 0


def test_lost_samples_are_told() -> None:
    path = result("ffhq256ddpm/down_sampling", [records([29.0]), records([30.0])])
    content = json.loads((path / "metrics.json").read_text())
    content["lost"] = [{"image": "face-1", "run": 0, "message": "lost"}]
    (path / "metrics.json").write_text(json.dumps(content))
    assert "ffhq256ddpm/down_sampling: samples that were lost and count nowhere: 1." in call("results").stdout


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        ("", ("nothing",), "no such folder of results: nothing"),
        ("", ("full.txt",), "no such folder of results: full.txt"),
        ("", ("empty",), "empty holds no results: no recipe.yaml in it or below"),
        ("rm", ("results/ffhq256ddpm/down_sampling",), "results/ffhq256ddpm/down_sampling: the run is not finished (no metrics.json); run its recipe again"),
        ("rm", ("results",), "none of these runs is finished; run their recipes again"),
        ("{", ("results",), "results/ffhq256ddpm/down_sampling/metrics.json is damaged: "),
        ("[]", ("results",), "results/ffhq256ddpm/down_sampling: recipe.yaml or metrics.json is not what daps-kit run writes "),
        ("", ("results", "--csv", "no/t.csv"), "cannot write no/t.csv: No such file or directory"),
    ],
)  # fmt: skip
def test_mistakes_of_users(make: str, arguments: tuple[str, ...], message: str) -> None:
    path = result("ffhq256ddpm/down_sampling", [records([29.0])])
    Path("empty").mkdir()
    Path("full.txt").write_text("")
    if make == "rm":
        (path / "metrics.json").unlink()
    elif make:
        (path / "metrics.json").write_text(make)
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr


def test_a_damaged_recipe_and_a_run_of_which_all_was_lost() -> None:
    path = result("ffhq256ddpm/down_sampling", [records([29.0])])
    nothing = {"reported": None, "sample_mean": None, "posterior_mean": None, "oracle": None, "samples": []}
    content = {"summary": summarise([nothing]), "lost": [{}], "images": {"face": nothing}}
    (path / "metrics.json").write_text(json.dumps(content))
    assert call("results").stderr == "error: these results have nothing to show: every sample was lost\n"
    (path / "recipe.yaml").write_text("a: [")
    assert call("results").stderr.startswith(
        f"error: {path.relative_to(Path.cwd())}/recipe.yaml is damaged: "
    )


def test_the_command_needs_no_torch() -> None:
    result("ffhq256ddpm/down_sampling", [records([29.0])])
    code = (
        "import sys\nfrom daps_kit.command.main import main\n"
        "try:\n    main(['table', 'results'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "False"
    assert done.stdout.startswith("| model ")
