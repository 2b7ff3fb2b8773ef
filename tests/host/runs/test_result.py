"""A finished run from Python."""

from __future__ import annotations

import pytest
import torch

import daps_kit
from daps_kit.errors import UserError
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.result import RunResult


def test_results_of_different_shapes_are_not_stacked(tmp_path):
    folder = RunFolder(tmp_path)
    for name, size in (("a", 4), ("b", 6)):
        folder.write_sample(name, 0, Sample(torch.zeros(3, size, size)))
    with pytest.raises(UserError, match=r"different shapes .*take them one by one"):
        _ = RunResult(tmp_path, ("a", "b"), 1).samples
    with pytest.raises(UserError, match="has tasks"):
        _ = RunResult(tmp_path, tasks=(RunResult(tmp_path, ("a",), 1),)).samples


def test_a_finished_folder_is_opened(toy, tmp_path):
    made = daps_kit.run(toy(), ["runs=2", f"output={tmp_path / 'out'}"], quiet=True)
    found = daps_kit.open(tmp_path / "out")
    assert (found.path, found.names, found.runs) == (made.path, made.names, made.runs)
    one = found[found.names[0]]
    assert torch.equal(one.samples, made.samples[0])
    records = found.metrics["images"][found.names[0]]["samples"]
    assert one.residuals.tolist() == pytest.approx([record["residual"] for record in records])
    assert one.metrics()["psnr"] == pytest.approx(
        found.metrics["images"][found.names[0]]["posterior_mean"]["psnr"], abs=1e-3
    )
    assert one.names == [found.names[0]]
    assert "data:image/png;base64," in found._repr_html_()
    assert "data:image/png;base64," in one._repr_html_()
    assert f"{len(found)} images, 2 samples each" in repr(found)
    with pytest.raises(UserError, match="no image 'nobody'; there are"):
        found["nobody"]


def test_what_is_no_finished_run_is_told(tmp_path):
    for folder, message in ((tmp_path / "gone", "no such folder"), (tmp_path, "holds no results")):
        with pytest.raises(UserError, match=message):
            daps_kit.open(folder)
    (tmp_path / "recipe.yaml").write_text("runs: 1\n")
    with pytest.raises(UserError, match="the run is not finished"):
        daps_kit.open(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        daps_kit.open(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="is not what daps-kit run writes"):
        daps_kit.open(tmp_path)


def test_tasks_are_opened_together(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("runs: 1\n")
        (tmp_path / name / "metrics.json").write_text('{"images": {"x": {}}}')
    found = daps_kit.open(tmp_path)
    assert [task.path.name for task in found.tasks] == ["a", "b"]
    assert "2 tasks" in repr(found)
    with pytest.raises(UserError, match="has tasks"):
        found[0]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, None])
def test_metrics_that_cannot_be_read(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.json(: No such file| is damaged)"):
        _ = RunResult(tmp_path, ("a",), 1).metrics


def test_an_angle_is_told_on_its_circle(tmp_path):
    path = tmp_path / "angle.yaml"
    path.write_text(
        f"format: 1\nruns: 6\noutput: {tmp_path / 'out'}\n"
        "data: {use: prior, count: 1, image_shape: [1, 8, 8]}\nprior: {use: gaussian, std: 0.3}\n"
        "sampler: {use: daps, budget: 5}\n"
        "operator: {use: linear_motion_blur, length: 6, angle: {unknown: [0, 180], truth: 0}, "
        "noise: {use: gaussian, sigma: 0.02}}\n"
    )
    found = daps_kit.run(path, quiet=True)
    told = found.metrics["images"][found.names[0]]["parameters"]["angle"]
    assert abs(told["mean"] - told["truth"]) < 10
    assert found[0].parameters["angle"].tolist() == told["samples"]
    raw = [s.parameters["angle"][-1] for s in RunFolder(found.path).samples(found.names[0], 6)]
    assert max(raw) - min(raw) > 90 > max(told["samples"]) - min(told["samples"])
