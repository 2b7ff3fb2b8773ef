"""What the trackers were told is read again by their own readers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import daps_trackers
import pytest

import daps_kit
from daps_kit.discovery import Plugin
from daps_kit.registry import default_registry
from daps_kit.trackers import OfferedTracker

RECIPE = """
format: 1
data: {use: prior, count: 1, image_shape: [3, 8, 8]}
prior: {use: gaussian}
operator: {use: gaussian_blur, kernel_size: 5}
sampler: {use: daps, budget: 9}
check_prior: false
runs: 2
"""


@contextlib.contextmanager
def offered():
    """The trackers, whether the plugin is installed or not."""
    registry = default_registry()
    before = list(registry.trackers)
    if not before:
        registry.trackers += [
            OfferedTracker(t.name, "daps-trackers", t) for t in daps_trackers.daps_trackers()
        ]
    yield
    registry.trackers = before


def run(tracker, tmp_path, monkeypatch, recipe=RECIPE):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(recipe)
    with offered():
        return daps_kit.run("mine.yaml", [f"trackers=[{tracker}]", "output=out"], quiet=True)


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = run("mlflow", tmp_path, monkeypatch)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("daps-kit")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert found.data.metrics["samples"] == 2
    assert found.data.metrics["lost"] == 0
    expected = result.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    assert found.data.metrics["posterior_mean/psnr"] == pytest.approx(expected)
    sigmas = [m.value for m in client.get_metric_history(found.info.run_id, "sigma")]
    assert len(sigmas) > 3
    assert sorted(sigmas, reverse=True) == sigmas
    kept = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert kept == {"recipe.yaml", "grid.png"}


def test_tensorboard(tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = run("tensorboard", tmp_path, monkeypatch)
    events = reader.EventAccumulator(str(result.path / "tensorboard")).Reload()
    expected = result.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    (value,) = events.Scalars("posterior_mean/psnr")
    assert value.value == pytest.approx(expected, rel=1e-5)
    sigmas = [event.value for event in events.Scalars("sigma")]
    assert len(sigmas) > 3
    assert sorted(sigmas, reverse=True) == sigmas
    assert events.Tags()["images"] == ["grid"]
    assert [event.value for event in events.Scalars("lost")] == [0, 0]


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = run("wandb", tmp_path, monkeypatch)
    (file,) = (result.path / "wandb").glob("offline-run-*/*.wandb")
    end = time.monotonic() + 60
    while b"image-file" not in file.read_bytes() and time.monotonic() < end:
        time.sleep(0.1)  # a process of its own writes the file, and may be behind
    content = file.read_bytes()
    expected = result.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    assert b"posterior_mean/psnr" in content
    assert json.dumps(expected).encode() in content
    for word in (b"sigma", b"residual", b"samples", b"grid", b"image-file"):
        assert word in content
    assert wandb.run is None


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))  # read when it is imported
    trackio = pytest.importorskip("trackio")
    reader = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    result = run("trackio", tmp_path, monkeypatch)
    assert [found.name for found in trackio.Api().runs("daps-kit")] == ["mine"]
    rows = reader.get_logs("daps-kit", "mine")
    expected = result.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    assert [row["posterior_mean/psnr"] for row in rows if "posterior_mean/psnr" in row] == [
        pytest.approx(expected)
    ]
    assert [row["samples"] for row in rows if "samples" in row] == [1, 2]
    sigmas = [row["sigma"] for row in rows if "sigma" in row]
    assert len(sigmas) > 3
    assert sorted(sigmas, reverse=True) == sigmas


AIM = """
import json, aim
from aim.cli.cli import cli_entry_point
from aim.storage.context import Context
from PIL import Image

cli_entry_point(["storage", "--repo", ".", "reindex", "--yes"], standalone_mode=False)
repo = aim.Repo(".")
(number,) = repo.list_all_runs()
run = aim.Run(number, repo=repo, read_only=True)
(picture,) = run.get_image_sequence("grid", Context({})).values.values_list()
told = {m.name: sorted(m.values.values_numpy().tolist()) for m in run.metrics()}  # it keeps them in another order
same = picture.to_pil_image().tobytes() == Image.open("out/grid.png").tobytes()
print(json.dumps([run.name, run.experiment, run.active, run["recipe", "runs"], same, told]))
"""
"""How a run of Aim is read, once it is in the index, where `aim up` puts it by itself."""


def test_aim(tmp_path, monkeypatch):
    pytest.importorskip("aim").Repo(str(tmp_path), init=True)  # else a folder .aim further up would be taken
    result = run("aim", tmp_path, monkeypatch)
    read = subprocess.run([sys.executable, "-c", AIM], capture_output=True, text=True, check=True)
    *about, told = json.loads(read.stdout.splitlines()[-1])
    assert about == ["mine", "daps-kit", False, 2, True]
    expected = result.metrics["summary"]["posterior_mean"]["psnr"]["mean"]
    assert told["posterior_mean/psnr"] == [pytest.approx(expected)]
    assert told["samples"] == [1, 2]
    assert told["lost"] == [0, 0]
    assert len(told["sigma"]) == len(told["residual"]) > 3
    assert told["sigma"][-1] == 2


def test_a_library_that_is_missing_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RECIPE)
    with offered():
        result = daps_kit.run("mine.yaml", ["trackers=[mlflow]", "output=out"])
    assert len(result.samples[0]) == 2
    said = capsys.readouterr().err
    assert said.count("tracker mlflow failed and is told no more") == 1


def test_the_plugin_offers_them_by_its_hook():
    assert [t.name for t in daps_trackers.daps_trackers()] == [
        "mlflow",
        "tensorboard",
        "wandb",
        "trackio",
        "aim",
    ]
    assert Plugin("a:b", "a", "1", "m", "ok").trackers == ()
