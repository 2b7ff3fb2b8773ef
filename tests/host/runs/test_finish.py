"""What is made from samples that are there: scores, moments, pictures, and which of it all is shown."""

from __future__ import annotations

import io
import json
import math
import statistics
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daps_kit import tensor_file
from daps_kit.failures import Failure
from daps_kit.report import metrics_file
from daps_kit.report.summary import metrics_markdown
from daps_kit.runs import finish as module
from daps_kit.runs.cost import Cost
from daps_kit.runs.finish import finish, join
from daps_kit.runs.folder import RunFolder, Sample
from daps_kit.runs.metrics import Summary
from daps_kit.runs.perceptual import Perceptual
from daps_kit.runs.pictures import Row

SHAPE = (1, 12, 12)
LOST = Failure(0, 3, 8, 0.5, "diverged", "a smaller step size")


def draws(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Bench:
    """Items whose residual is the distance to the measurement."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def residual(self, index: int, y: torch.Tensor) -> Any:
        return lambda x: (x - y).square().flatten(1).mean(1).sqrt()

    def multimodal(self, index: int) -> bool:
        return False

    def picture(self, index: int, y: torch.Tensor) -> torch.Tensor:
        return y

    def periods(self, index: int) -> dict[str, float]:
        return {}

    def named_truths(self, index: int) -> None:
        return None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[tuple[str, list[Row]]], str]]:
    """The sections and titles of the grids."""
    grids: list[tuple[list[tuple[str, list[Row]]], str]] = []
    original = module.draw_grid

    def draw_grid(sections: Any, title: str) -> Any:
        grids.append((list(sections), title))
        return original(sections, title)

    monkeypatch.setattr(module, "draw_grid", draw_grid)
    return grids


def begun(path: Path, names: list[str], runs: int, lost: dict[str, int] | None = None) -> RunFolder:
    """A folder with all samples; the truth is the measurement."""
    folder = RunFolder(path)
    for seed, name in enumerate(names):
        y = draws(100 + seed, 1)[0]
        folder.write_measurement(name, y, y, {})
        for run, x0 in enumerate(draws(seed, runs)):
            gone = (lost or {}).get(name) == run
            x0 = torch.full_like(x0, torch.nan) if gone else x0
            folder.write_sample(name, run, Sample(x0, LOST if gone else None, Cost(10.0 + run, run)))
    return folder


def test_moments_are_those_of_the_samples_that_are_left(tmp_path: Path) -> None:
    folder = begun(tmp_path, ["a", "b"], 3, lost={"b": 1})
    metrics, rows = finish(folder, "any", Bench(["a", "b"]), 3, Perceptual())
    for name, seed, kept in (("a", 0, [0, 1, 2]), ("b", 1, [0, 2])):
        left = draws(seed, 3)[kept].double().numpy()
        moments, _ = tensor_file.read_plain(folder.beside(name, "posterior.safetensors"))
        np.testing.assert_allclose(moments["mean"], left.mean(0), atol=1e-6)
        np.testing.assert_allclose(moments["std"], left.std(0, ddof=1), atol=1e-6)
        for key, level in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
            np.testing.assert_allclose(moments[key], np.quantile(left, level, axis=0), atol=1e-6)
        assert [record["run"] for record in metrics["images"][name]["samples"]] == kept
        pictures = sorted(path.stem for path in folder.beside(name, "").glob("*.png"))
        assert pictures == ["mean", *(f"sample-{run + 1:02d}" for run in kept), "std"]
    assert metrics["lost"] == [
        {"image": "b", "run": 1, "level": 4, "levels": 8, "sigma": 0.5, "cause": "diverged",
         "advice": "a smaller step size", "message": str(LOST)}
    ]  # fmt: skip
    assert metrics["network_calls"] == pytest.approx(11.0)
    assert metrics["jacobian_products"] == pytest.approx(1.0)
    assert metrics["operator_products"] == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["images"].keys() == {"a", "b"}
    assert [row.name for row in rows] == ["a", "b"]


def test_of_a_sample_whose_worker_is_gone_no_level_is_made_up(tmp_path: Path) -> None:
    folder, gone = begun(tmp_path, ["a"], 2), Failure(0, 0, 0, 0.0, "worker", "it died three times")
    folder.write_sample("a", 1, Sample(torch.full(SHAPE, torch.nan), gone))
    metrics, _ = finish(folder, "any", Bench(["a"]), 2, Perceptual())
    assert metrics["lost"] == [
        {"image": "a", "run": 1, "cause": "worker", "advice": "it died three times",
         "message": "lost: whoever computed it failed; it died three times"}
    ]  # fmt: skip


def test_of_one_sample_there_are_no_moments(tmp_path: Path) -> None:
    folder = begun(tmp_path, ["a"], 1)
    _, (row,) = finish(folder, "any", Bench(["a"]), 1, Perceptual())
    assert (row.mean, row.std) == (None, None)
    assert not folder.beside("a", "posterior.safetensors").exists()
    # Nor of two of which one is lost.
    folder = begun(tmp_path / "two", ["a"], 2, lost={"a": 0})
    _, (row,) = finish(folder, "any", Bench(["a"]), 2, Perceptual())
    assert (row.mean, row.std) == (None, None)
    assert not folder.beside("a", "posterior.safetensors").exists()


def test_of_many_the_first_are_shown_and_the_reported_one(tmp_path: Path, drawn: list[Any]) -> None:
    names = [f"item-{i}" for i in range(9)]
    metrics, rows = finish(begun(tmp_path, names, 6), "any", Bench(names), 6, Perceptual())
    ((heading, shown),) = drawn[0][0]
    assert heading == "The first 8 of 9 images"
    assert [row.name for row in shown] == names[:8]
    reported = {name: metrics["images"][name]["reported"]["run"] for name in names}
    assert len(set(reported.values()) - {0, 1, 2, 3}) > 0
    for row in rows:
        last = reported[row.name]
        assert [run for run, _ in row.samples] == [0, 1, 2, 3 if last < 4 else last]
        for run, x0 in row.samples:
            assert torch.equal(x0, draws(names.index(row.name), 6)[run])
    drawn.clear()
    finish(begun(tmp_path / "eight", names[:8], 2), "any", Bench(names[:8]), 2, Perceptual())
    assert drawn[0][0][0][0] == ""


def test_pictures_that_are_there_stay(tmp_path: Path) -> None:
    folder = begun(tmp_path, ["a"], 2)
    levels = {key: draws(7, 2) for key in ("x_t", "x0hat", "x0y")} | {"sigma": torch.tensor([3.0, 0.5])}
    tensor_file.write_plain(folder.trajectory("a", 1), levels)
    bench = Bench(["a"])
    finish(folder, "any", bench, 2, Perceptual())
    pictures = {path: path.read_bytes() for path in folder.beside("a", "").glob("sample-*.png")}
    assert sorted(path.name for path in pictures) == [
        "sample-01.png",
        "sample-02-trajectory.png",
        "sample-02.png",
    ]
    kept, other = sorted(pictures)[:2]
    kept.write_bytes(pictures[sorted(pictures)[2]])  # another picture, but a whole one
    other.write_bytes(pictures[other][:-5])
    finish(folder, "any", bench, 2, Perceptual())
    assert kept.read_bytes() == pictures[sorted(pictures)[2]]
    assert other.read_bytes() == pictures[other]


def test_tasks_share_a_picture_and_a_table(tmp_path: Path, drawn: list[Any]) -> None:
    parts = []
    for task in ("one", "two"):
        metrics, rows = finish(begun(tmp_path / task, ["a"], 2), task, Bench(["a"]), 2, Perceptual())
        parts.append((task, metrics, rows))
    drawn.clear()
    join(RunFolder(tmp_path), "both", parts)
    ((sections, title),) = drawn
    assert ([heading for heading, _ in sections], title) == (["one", "two"], "both")
    text = (tmp_path / "metrics.md").read_text()
    assert text.index("one") < text.index("two")
    assert (tmp_path / "grid.png").exists()


def test_what_was_unknown_is_summed_up() -> None:
    values = [0.1, 0.2, 0.3, 0.6]
    samples = [Sample(torch.zeros(1), parameters={"noise.sigma": [0.5, value]}) for value in values]
    lost = Sample(torch.zeros(1), LOST, parameters={"noise.sigma": [0.0, 9.0]})
    found = module.inferred([*samples, lost], {})
    sigma = found["noise.sigma"]
    assert sigma["samples"] == values
    assert sigma["mean"] == pytest.approx(0.3)
    assert sigma["std"] == pytest.approx(statistics.stdev(values))
    assert sigma["interval"] == pytest.approx([0.115, 0.555])
    assert sigma["trace"] == pytest.approx([0.5, 0.3])
    assert module.inferred([Sample(torch.zeros(1))], {}) == {}


def test_angles_are_summed_up_across_their_period() -> None:
    values = [178.0, 1.0, 4.0]
    samples = [Sample(torch.zeros(1), parameters={"angle": [90.0, value]}) for value in values]
    angle = module.inferred(samples, {"angle": 180.0})["angle"]
    assert angle["mean"] == pytest.approx(1.0)
    assert angle["std"] == pytest.approx(3.0)
    assert angle["interval"] == pytest.approx([-1.7, 3.7])
    assert angle["trace"] == pytest.approx([90.0, 1.0])
    assert (angle["period"], angle["truth"]) == (180.0, None)


def test_the_truth_of_an_angle_is_told_beside_its_mean() -> None:
    samples = [Sample(torch.zeros(1), parameters={"angle": [value]}) for value in (178.0, 179.0, 0.5)]
    angle = module.inferred(samples, {"angle": 180.0}, {"angle": 2.0})["angle"]
    assert angle["mean"] == pytest.approx(179.0 + 1 / 6)
    assert angle["truth"] == pytest.approx(182.0)


def test_the_numbers_of_a_kernel_are_told_as_one() -> None:
    kernels = np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 1]]]) / 2.0
    numbers = {f"kernel[{i},{j}]": kernels[:, i, j] for i in range(3) for j in range(3)}
    samples = [
        Sample(torch.zeros(1), parameters={name: [0.0, float(each[run])] for name, each in numbers.items()})
        for run in range(2)
    ]
    found = module.gathered(module.inferred(samples, {}), module._kernel)
    assert list(found) == ["kernel"]
    assert found["kernel"]["mean"] == kernels.mean(0).tolist()
    np.testing.assert_allclose(found["kernel"]["std"], kernels.std(0, ddof=1))
    assert found["kernel"]["truth"] is None
    assert found["kernel"]["agreement"] == pytest.approx(1)  # one is the other moved
    archive = np.load(io.BytesIO(module._traces(samples, {})))
    assert archive.files == ["kernel"]
    np.testing.assert_array_equal(archive["kernel"][:, 1], kernels)
    assert not archive["kernel"][:, 0].any()


def test_numbers_of_many_images_are_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an image no more than half a KiB stays until all are written; what metrics.json says of it has three times that."""
    scores = {"psnr": 30.0, "ssim": 0.9, "residual": 1.0}
    item = {
        "reported": {"run": 0, **scores},
        "reported_by": "medoid",
        **dict.fromkeys(("sample_mean", "posterior_mean", "oracle", "ensemble"), scores),
        "samples": [{"run": run, **scores} for run in range(8)],
    }

    monkeypatch.setattr(metrics_file, "BLOCK", 1 << 12)

    def peak(images: int) -> int:
        folder = RunFolder(tmp_path / str(images))
        folder.path.mkdir()
        tracemalloc.start()
        summary = Summary()
        with folder.metrics() as file:
            for index in range(images):
                summary.add(item)
                file.add(f"image-{index:05d}", item)
            metrics = file.write({"format": 1, "summary": summary.content(), "lost": []})
        metrics_markdown("any", metrics)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(100), peak(700)
    assert (tmp_path / "700/metrics.json").stat().st_size > 700 * 1400
    assert (many - few) / 600 < 512


def test_metrics_are_written_as_json_writes_them_at_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    images = {"ä": {"a": [1, {"b": math.nan}], "c": {}}, "b": {}, '"': {"d": "\n"}}
    for content in (images, {}):
        with folder.metrics() as file:
            for name, item in content.items():
                file.add(name, item)
            found = file.write({"format": 1, "lost": []})
        folder.write_json("whole.json", {"format": 1, "lost": [], "images": content})
        assert (tmp_path / "metrics.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
        assert list(found["images"]) == list(content)
