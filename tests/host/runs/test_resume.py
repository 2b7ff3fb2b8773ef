"""A run that is broken off at any moment goes on, and gives exactly what an unbroken run gives."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import daps_kit
from daps_kit import files
from daps_kit.errors import UserError
from daps_kit.images import save_png
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.measurement import Bench
from tests.plugin_files import RECIPE, SOURCE, write_plugin

COMMAND = "from daps_kit.command.main import main; main()"


def contents(folder: Path) -> dict[str, bytes]:
    """Return everything that must not depend on how often a run was broken off."""
    ignored = ("environment.json", "environment.js", "recipe.yaml", ".lock")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ignored
    }


def start(path: Path, *overrides: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, "run", str(path), *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_killed_and_run_again(toy, tmp_path):
    changes = ("batch_size=2", "runs=4", "sampler.annealing.levels=40", "sampler.kernel.steps=30")
    unbroken = daps_kit.run(toy(), [*changes, f"output={tmp_path / 'unbroken'}"], quiet=True)

    out = tmp_path / "out"
    program = start(toy(), *changes)
    deadline = time.monotonic() + 120
    while not list(out.glob("samples/*/sample-*.safetensors")):
        assert program.poll() is None, program.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("samples/*/sample-*.safetensors")}
    assert 0 < len(finished) < 12
    assert not (out / "metrics.json").exists()

    program = start(toy(), *changes)
    text = program.communicate(timeout=170)[0].decode()
    assert program.returncode == 0, text
    assert contents(out) == contents(unbroken.path)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.parametrize("allowed", [0, 1, 2, 5, 8, 12, 17])
def test_stopped_at_any_file_and_run_again(toy, tmp_path, monkeypatch, allowed):
    """The disk is full after so many files: an error in one line, whole files only, and a run that goes on."""
    unbroken = daps_kit.run(toy(), [f"output={tmp_path / 'unbroken'}"], quiet=True)
    original, written = os.fsync, []

    def fsync(descriptor: int) -> None:
        if len(written) >= allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(descriptor)
        original(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", fsync)
        with pytest.raises(UserError, match="cannot write .*: No space left on device") as caught:
            daps_kit.run(toy(), quiet=True)
    assert "\n" not in str(caught.value)
    out = tmp_path / "out"
    assert not list(out.rglob("*.tmp"))
    whole = contents(unbroken.path)
    for name, content in contents(out).items():
        assert content == whole[name]
    again = daps_kit.run(toy(), quiet=True)
    assert contents(again.path) == whole


def test_a_batch_is_completed_bit_for_bit(toy, tmp_path):
    first = daps_kit.run(toy(), ["batch_size=4"], quiet=True)
    whole = contents(first.path)
    (first.path / "samples/ash/sample-02.safetensors").unlink()
    (first.path / "samples/birch/sample-01.safetensors").unlink()
    again = daps_kit.run(toy(), ["batch_size=4"], quiet=True)
    assert contents(again.path) == whole
    assert torch.equal(first.samples, again.samples)


def test_more_runs_are_added_and_the_first_stay(toy, tmp_path):
    first = daps_kit.run(toy(), ["batch_size=4"], quiet=True)
    kept = {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in first.path.glob("samples/*/sample-*.safetensors")
    }
    more = daps_kit.run(toy(), ["batch_size=4", "runs=5"], quiet=True)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in kept} == kept
    assert more.samples.shape[:2] == (3, 5)
    assert len(more.metrics["images"]["ash"]["samples"]) == 5
    at_once = daps_kit.run(toy(), ["runs=5", f"output={tmp_path / 'at-once'}"], quiet=True)
    torch.testing.assert_close(more.samples, at_once.samples, atol=1e-6, rtol=0)
    for name, there, here in (("fewer", "runs=2", "5 there, 2 here"), ("seed", "seed=4", "3 there, 4 here")):
        with pytest.raises(UserError, match=here):
            daps_kit.run(toy(name), [there], quiet=True)
    assert (first.path / "metrics.json").exists(), "what is refused changes nothing"


def test_a_run_that_was_broken_off_while_it_grew_goes_on(toy, tmp_path):
    whole = [
        daps_kit.run(toy(), [runs, f"output={tmp_path / 'whole'}"], quiet=True)
        for runs in ("runs=2", "runs=4")
    ]
    daps_kit.run(toy(), quiet=True)
    grown = daps_kit.run(toy(), ["runs=4"], quiet=True)
    assert contents(grown.path) == contents(whole[1].path)
    for name, run in (("ash", 2), ("cedar", 3), ("birch", 0)):
        (grown.path / f"samples/{name}/sample-{run + 1:02d}.safetensors").unlink()
    (grown.path / "metrics.json").unlink()
    again = daps_kit.run(toy(), ["runs=4"], quiet=True)
    assert contents(again.path) == contents(whole[1].path)


@pytest.mark.parametrize(
    "damaged",
    [
        "samples/ash/sample-02.safetensors",
        "samples/ash/sample-02.png",
        "measurement/birch.safetensors",
        "measurement/birch.png",
        "measurement/birch-truth.png",
        "samples/cedar/posterior.safetensors",
        "samples/cedar/std.png",
        "grid.png",
        "metrics.json",
    ],
)
def test_damaged_files_are_made_again(toy, damaged):
    first = daps_kit.run(toy(), quiet=True)
    whole = contents(first.path)
    path = first.path / damaged
    path.write_bytes(path.read_bytes()[:-9])
    assert contents(first.path) != whole
    assert contents(daps_kit.run(toy(), quiet=True).path) == whole


@pytest.mark.parametrize("damaged", ["samples/ash/sample-02.safetensors", "measurement/birch.safetensors"])
def test_what_looks_whole_is_read_before_it_is_used(toy, damaged, monkeypatch, capsys):
    monkeypatch.setattr("daps_kit.runs.runner.LOOKED_AT", 1)
    first = daps_kit.run(toy(), quiet=True)
    whole = contents(first.path)
    path = first.path / damaged
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (first.path / "samples/cedar/sample-01.safetensors").unlink()
    assert contents(daps_kit.run(toy()).path) == whole
    assert "is missing or damaged" in capsys.readouterr().err


def test_of_many_measurements_the_first_are_made_again(toy, monkeypatch):
    monkeypatch.setattr("daps_kit.runs.runner.LOOKED_AT", 1)
    whole = contents(daps_kit.run(toy(), quiet=True).path)
    measured = []
    measure = Bench.measure
    monkeypatch.setattr(
        Bench, "measure", lambda self, i, stored: measured.append(i) or measure(self, i, stored)
    )
    assert contents(daps_kit.run(toy(), quiet=True).path) == whole
    assert measured == [0]


def test_images_drawn_from_the_prior_are_not_drawn_again(toy, tmp_path, monkeypatch):
    np.save(tmp_path / "mean.npy", np.zeros((3, 12, 12), dtype=np.float32))
    prior = {"use": "gaussian", "mean": str(tmp_path / "mean.npy"), "std": 0.3}
    path = toy(prior=prior, data={"use": "prior", "count": 2})
    first = daps_kit.run(path, quiet=True)
    whole = contents(first.path)
    (first.path / "samples/draw-001/sample-01.safetensors").unlink()
    monkeypatch.setattr("daps_priors.exact.gaussian.GaussianPrior.sample", None)
    assert contents(daps_kit.run(path, quiet=True).path) == whole


def test_a_finished_run_samples_nothing(toy, monkeypatch):
    first = daps_kit.run(toy(), quiet=True)
    whole = contents(first.path)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("sampled again")

    monkeypatch.setattr("daps_samplers.daps.DAPS.sample", refuse)
    assert contents(daps_kit.run(toy(), quiet=True).path) == whole


def test_going_on_with_another_library_is_said(toy, capsys):
    first = daps_kit.run(toy(), quiet=True)
    environment = first.path / "environment.json"
    content = environment.read_text()
    environment.write_text(content.replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    (first.path / "samples/ash/sample-01.safetensors").unlink()
    daps_kit.run(toy())
    assert (
        f"toy was begun with other means: libraries.torch 1.0 is now {torch.__version__}"
        in capsys.readouterr().err
    )
    now, then = json.loads(environment.read_text()), json.loads(content)
    assert (then.pop("drawn"), now.pop("drawn")) == (6, 12), "a batch is drawn as a whole"
    assert now.pop("seconds") > then.pop("seconds")
    assert now == then


def test_what_is_there_already_is_counted(toy, capsys):
    first = daps_kit.run(toy(), quiet=True)
    (first.path / "samples/ash/sample-01.safetensors").unlink()
    daps_kit.run(toy())
    assert "5 of 6 samples done" in capsys.readouterr().err


def test_a_batch_size_found_once_is_kept(toy):
    first = daps_kit.run(toy(), quiet=True)
    environment = first.path / "environment.json"
    environment.write_text(environment.read_text().replace('"batch_size": 16', '"batch_size": 2'))
    (first.path / "samples/ash/sample-01.safetensors").unlink()
    daps_kit.run(toy(), quiet=True)
    assert '"batch_size": 2' in environment.read_text()


def test_a_lost_trajectory_is_drawn_anew(toy):
    first = daps_kit.run(toy(), ["trajectory=3"], quiet=True)
    whole = contents(first.path)
    for name in ("samples/ash/sample-01-trajectory", "samples/birch/sample-02-trajectory"):
        (first.path / f"{name}.safetensors").unlink()
        (first.path / f"{name}.png").unlink()
    cut = first.path / "samples/cedar/sample-01-trajectory.safetensors"
    cut.write_bytes(cut.read_bytes()[:-4])
    assert contents(daps_kit.run(toy(), ["trajectory=3"], quiet=True).path) == whole


@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 16, 16), (16, 16), ()])
def test_a_sample_of_another_shape_is_drawn_anew(toy, shape):
    first = daps_kit.run(toy(), quiet=True)
    whole = contents(first.path)
    RunFolder(first.path).write_sample("birch", 1, Sample(torch.zeros(shape)))
    assert contents(daps_kit.run(toy(), quiet=True).path) == whole


@pytest.mark.parametrize("size", [(3, 8, 16), (1, 16, 16)])
def test_trajectories_and_pictures_of_another_shape_are_made_anew(toy, size):
    first = daps_kit.run(toy(), ["trajectory=3"], quiet=True)
    whole = contents(first.path)
    folder = RunFolder(first.path)
    images = dict.fromkeys(("x_t", "x0hat", "x0y"), torch.zeros(size))
    folder.write_trajectory("birch", 1, [(sigma, images) for sigma in (5.0, 1.0, 0.05)])
    save_png(torch.zeros(3, 8, 8), folder.sample("ash", 0).with_suffix(".png"))
    save_png(torch.zeros(3, 8, 8), folder.trajectory("ash", 0).with_suffix(".png"))
    save_png(torch.zeros(3, 8, 8), folder.measurement("ash").with_suffix(".png"))
    save_png(torch.zeros(3, 8, 8), folder.measurement("ash").with_name("ash-truth.png"))
    assert contents(daps_kit.run(toy(), ["trajectory=3"], quiet=True).path) == whole


@pytest.mark.parametrize("change", [lambda levels: levels[1:], lambda levels: levels[:2] + levels[:1]])
def test_a_trajectory_of_other_levels_is_drawn_anew(toy, change):
    first = daps_kit.run(toy(), ["trajectory=3"], quiet=True)
    whole = contents(first.path)
    folder = RunFolder(first.path)
    folder.write_trajectory("birch", 1, change(folder.read_trajectory("birch", 1)))
    assert contents(daps_kit.run(toy(), ["trajectory=3"], quiet=True).path) == whole


def test_samples_whose_data_are_gone_stay_and_are_told(toy, capsys, tmp_path):
    first = daps_kit.run(toy(), quiet=True)
    (tmp_path / "photos" / "birch.png").rename(tmp_path / "photos" / "oak.png")
    daps_kit.run(toy())
    assert "out holds samples of birch, which the data no longer have" in capsys.readouterr().err
    assert (first.path / "samples/birch/sample-01.safetensors").exists()
    table = (first.path / "metrics.md").read_text()
    assert "oak" in table
    assert "birch" not in table


def test_measurements_with_and_without_a_true_image(toy, tmp_path):
    first = daps_kit.run(toy(), quiet=True)
    for folder in ("y", "truth"):
        (tmp_path / folder).mkdir()
    for name in ("ash", "birch"):
        y, truth = RunFolder(first.path).measured(name)
        np.save(tmp_path / "y" / f"{name}.npy", y.numpy())
        if name == "birch":
            np.save(tmp_path / "truth" / f"{name}.npy", truth.numpy())
    data = {"use": "measurement", "path": "y", "truth": "truth", "image_shape": [3, 16, 16]}
    found = daps_kit.run(toy(data=data, output=str(tmp_path / "given")), quiet=True).metrics
    assert found["summary"]["posterior_mean"]["psnr"]["images"] == 1
    assert found["summary"]["posterior_mean"]["residual"]["images"] == 2
    assert "psnr" not in found["images"]["ash"]["reported"]


def test_a_true_image_that_is_gone_is_named(toy, tmp_path):
    first = daps_kit.run(toy(), quiet=True)
    for folder in ("y", "truth"):
        (tmp_path / folder).mkdir()
        for name in ("ash", "birch"):
            np.save(
                tmp_path / folder / f"{name}.npy", RunFolder(first.path).measured(name)[folder == "truth"]
            )
    data = {"use": "measurement", "path": "y", "truth": "truth", "image_shape": [3, 16, 16]}
    recipe = toy(data=data, output=str(tmp_path / "given"))
    daps_kit.run(recipe, quiet=True)
    (tmp_path / "truth/birch.npy").unlink()
    with pytest.raises(UserError, match=r"truth/birch\.npy is gone since .*given was begun; choose another"):
        daps_kit.run(recipe, quiet=True)
    (tmp_path / "y/birch.npy").unlink()
    daps_kit.run(recipe, quiet=True)  # an item that the data no longer have


@pytest.mark.parametrize("kind", ["operator", "measurement", "sample", "picture"])
def test_a_single_wrong_bit_is_mended(toy, kind):
    first = daps_kit.run(toy(operator={"use": "inpainting", "mask": "random"}), quiet=True)
    whole = contents(first.path)
    path = {
        "operator": first.path / "operator/3x16x16.safetensors",
        "measurement": first.path / "measurement/ash.safetensors",
        "sample": first.path / "samples/ash/sample-01.safetensors",
        "picture": first.path / "samples/ash/sample-01.png",
    }[kind]
    data = bytearray(path.read_bytes())
    data[-30] ^= 4
    path.write_bytes(data)
    again = daps_kit.run(toy(operator={"use": "inpainting", "mask": "random"}), quiet=True)
    assert contents(again.path) == whole


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("write", range(0, 30, 4))
def test_a_folder_that_goes_amid_a_run_is_named_and_not_made_again(toy, tmp_path, monkeypatch, write, moved):
    original, written, out = os.replace, [], tmp_path / "out"

    def replace(source, target):
        if len(written) == write:
            out.rename(tmp_path / "elsewhere") if moved else shutil.rmtree(out)
        else:
            original(source, target)
        written.append(target)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "replace", replace)
        with pytest.raises(
            UserError, match="out was removed or moved while the run was at work in it"
        ) as caught:
            daps_kit.run(toy(), quiet=True)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.iterdir())
    assert len(daps_kit.run(toy(), quiet=True).samples) == 3


# --- files that change under a run


def test_a_picture_that_changed_is_refused_also_where_its_measurement_is_lost(toy, tmp_path):
    first = daps_kit.run(toy(), quiet=True)
    (first.path / "measurement/birch.safetensors").unlink()
    shutil.copy(tmp_path / "photos/ash.png", tmp_path / "photos/birch.png")
    with pytest.raises(UserError, match=r"photos/birch\.png changed since .*out was begun"):
        daps_kit.run(toy(), quiet=True)


def test_a_picture_that_came_later_is_known_from_then_on(toy, tmp_path):
    first = daps_kit.run(toy(), quiet=True)
    shutil.copy(tmp_path / "photos/ash.png", tmp_path / "photos/date.png")
    daps_kit.run(toy(), quiet=True)
    assert (first.path / "samples/date/sample-01.safetensors").exists()
    shutil.copy(tmp_path / "photos/birch.png", tmp_path / "photos/date.png")
    with pytest.raises(UserError, match=r"photos/date\.png changed since"):
        daps_kit.run(toy(), quiet=True)


def written(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


FILES = {
    "kernel": lambda path: {"operator": {"use": "motion_blur", "kernel": str(path)}},
    "mask": lambda path: {"operator": {"use": "inpainting", "mask": str(path)}},
    "mean": lambda path: {"prior": {"use": "gaussian", "mean": str(path), "std": 0.4}},
}
FIRST = {
    "kernel": np.eye(3),
    "mask": np.tri(16),
    "mean": np.zeros((3, 16, 16), np.float32),
}
OTHER = {"kernel": np.ones((3, 3)), "mask": 1 - np.tri(16), "mean": np.full((3, 16, 16), 0.2, np.float32)}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_changed_is_refused_by_its_name(toy, tmp_path, kind):
    path = tmp_path / f"{kind}.npy"
    written(path, FIRST[kind])
    recipe = toy(**FILES[kind](path))
    first = daps_kit.run(recipe, quiet=True)
    before = contents(first.path)
    written(path, OTHER[kind])
    for _ in range(2):
        with pytest.raises(
            UserError, match=rf"{kind}\.npy changed since .*out was begun; choose another output"
        ):
            daps_kit.run(recipe, quiet=True)
    (first.path / "samples" / "ash" / "sample-02.safetensors").unlink()
    with pytest.raises(UserError, match=rf"{kind}\.npy changed"):
        daps_kit.run(recipe, quiet=True)
    written(path, FIRST[kind])
    daps_kit.run(recipe, quiet=True)
    assert contents(first.path) == before
    written(path, OTHER[kind])
    other = daps_kit.run(recipe, [f"output={tmp_path / 'other'}"], quiet=True)
    assert not torch.equal(other.samples, first.samples)


def test_an_operator_that_draws_or_reads_something_else_is_refused(toy, tmp_path):
    """As where a folder was begun by a version that did not write hashes, or that took a kernel for something else."""
    path = tmp_path / "kernel.npy"
    written(path, np.triu(np.ones((3, 3))))
    recipe = toy(**FILES["kernel"](path))
    first = daps_kit.run(recipe, quiet=True)
    text = (first.path / "recipe.yaml").read_text()
    assert f'# file "{path}": sha256 ' in text
    old = [line for line in text.splitlines() if not line.startswith("# file") and "kernel_is" not in line]
    (first.path / "recipe.yaml").write_text("\n".join(old) + "\n")
    daps_kit.run(recipe, quiet=True)  # a setting that is newer than the folder, at its default
    assert f'# file "{path}": sha256 ' in (first.path / "recipe.yaml").read_text()
    (first.path / "recipe.yaml").write_text("\n".join(old) + "\n")
    written(path, np.tri(3))
    with pytest.raises(UserError, match=r"operator: its kernel is not what it was when .*out was begun"):
        daps_kit.run(recipe, quiet=True)
    with pytest.raises(UserError, match=r"kernel_is: psf there, correlation here"):
        daps_kit.run(recipe, ["operator.kernel_is=correlation"], quiet=True)


def test_a_folder_of_an_earlier_version_goes_on(toy):
    """Its resolved recipe holds settings that have gone since, with their defaults, and lacks newer ones."""
    first = daps_kit.run(toy(), quiet=True)
    recipe = first.path / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    content["sampler"]["annealing"] |= {"beta": "linear", "beta_min": 0.1, "beta_max": 20.0}
    del content["sampler"]["tau"]
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    (first.path / "samples/ash/sample-02.safetensors").unlink()
    again = daps_kit.run(toy(), quiet=True)
    assert again.metrics == first.metrics
    content["sampler"]["annealing"]["beta"] = "scaled_linear"
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match=r"annealing.beta: scaled_linear there, not set here"):
        daps_kit.run(toy(), quiet=True)


def test_a_run_is_not_continued_with_another_plugin_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_plugin(tmp_path)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    first = daps_kit.run(recipe, quiet=True)
    again = daps_kit.run(tmp_path / "out" / "recipe.yaml", ["output=again"], quiet=True)
    assert torch.equal(first.samples, again.samples)
    write_plugin(tmp_path, SOURCE.replace("1 - strength", "1 - strength**2"))
    with pytest.raises(
        UserError, match=r"my_operator.py changed since .*out was begun; choose another output"
    ):
        daps_kit.run(recipe, quiet=True)
    assert daps_kit.run(recipe, ["output=other"], quiet=True).path.name == "other"
    assert str(file) in (tmp_path / "other" / "recipe.yaml").read_text()
