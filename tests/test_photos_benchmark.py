"""The parts of `python -m benchmarks photos`: what it measures with, what it hides, and the page it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks.photos.cases import COVERED, TASKS, Form, Picture, case, scratches
from benchmarks.photos.report import BEGIN, END, write
from benchmarks.photos.rivals import Rival, _of_photons, rivals, tv
from benchmarks.photos.run import cell_file, covered, run_cell
from daps_kit.errors import UserError


@pytest.fixture
def picture() -> Picture:
    y, x = np.mgrid[:48, :56] / 56
    values = np.stack([np.sin(6 * x), np.cos(5 * y), x * y])
    return Picture("waves", torch.from_numpy(values).float() * 0.8)


def test_intervals_hold_nine_of_ten_draws_of_a_gaussian():
    draws = torch.randn(5, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    assert covered(draws[:4], draws[4]) == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("seed", range(4))
def test_scratches_cover_what_they_should(seed):
    share = scratches((128, 160), np.random.default_rng(seed)).mean()
    assert COVERED[0] <= share <= COVERED[1]


@pytest.mark.parametrize("task", TASKS)
def test_every_method_of_a_task_sees_the_same(task, picture, tmp_path):
    first, again = (case(task, picture, tmp_path).y for _ in range(2))
    assert torch.equal(first, again)
    assert len(rivals(task)) >= 3


def test_photon_counts_come_back_without_bias(picture, tmp_path):
    """With a denoiser that knows the mean of what is made stable, the mean of the counts comes back."""
    flat = Picture("flat", torch.full((3, 64, 64), -0.2))
    found = case("10 photons", flat, tmp_path)
    back = _of_photons(found, lambda a, sigma: np.full_like(a, a.mean()))
    assert back.mean() == pytest.approx(0.4, rel=0.01)


def test_a_cell_is_filled_once_and_shown(picture, tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    form = Form.named("small")
    method = Rival("denoise_tv", tv, "skimage", ({"weight": 0.5}, {"weight": 1.0}))
    run_cell(tmp_path, form, "denoise 0.2", method, picture, [picture], {})
    file = cell_file(tmp_path, "small", "denoise 0.2", "denoise_tv", "waves")
    row = json.loads(file.read_text())
    tried = json.loads(cell_file(tmp_path, "tuning", "denoise 0.2", "denoise_tv", "chosen").read_text())
    assert row["parameters"] == max(tried["psnr"], key=lambda pair: pair[1])[0]
    assert row["psnr"] > 24  # of the noise alone it is 20
    monkeypatch.setattr("benchmarks.photos.run.case", None)
    run_cell(tmp_path, form, "denoise 0.2", method, picture, [picture], {})

    ours = cell_file(tmp_path, "small", "denoise 0.2", "daps", "waves")
    ours.parent.mkdir(parents=True)
    ours.write_text(json.dumps(row | {"psnr": 40.0}))
    (tmp_path / "photos.md").write_text(f"before\n{BEGIN}an older table\n{END}after\n")
    write(tmp_path, tmp_path)
    page = (tmp_path / "photos.md").read_text()
    assert page.startswith(f"before\n{BEGIN}")
    assert page.endswith(f"{END}after\n")
    assert "an older table" not in page
    assert "| denoise 0.2 | daps | **40.00** |" in page
    assert f"|  | denoise_tv | {row['psnr']:.2f} |" in page
    assert "denoise_tv" in (tmp_path / "photos-benchmark.svg").read_text()


def test_photographs_are_named_by_a_table(tmp_path):
    from benchmarks.photos.cases import load

    with pytest.raises(UserError, match=r"no such file: .*photos.csv"):
        load(tmp_path, "validation", Form.named("small"))
