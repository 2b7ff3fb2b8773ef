"""A posterior from Python: its numbers against closed forms, its pictures, and what is written and read again."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import daps_kit
from daps_kit.errors import UserError
from daps_kit.failures import Failure
from daps_kit.runs.cost import Cost
from daps_kit.runs.posterior import Posterior

SHAPE = (3, 16, 16)


def make(
    count: int = 2, runs: int = 5, *, single: bool = False, lost: tuple[int, int] | None = None
) -> Posterior:
    """Samples truth + 0.1 n, and their residuals, which are the numbers of the runs."""
    draws = torch.Generator().manual_seed(3)
    truth = torch.rand(count, *SHAPE, generator=draws) - 0.5
    samples = truth[:, None] + 0.1 * torch.randn(count, runs, *SHAPE, generator=draws)
    residuals = torch.arange(runs).float().expand(count, runs).clone()
    failures = {}
    if lost is not None:
        samples[lost], residuals[lost] = torch.nan, torch.nan
        failures = {lost: Failure(0, 1, 4, 2.0, "diverged", "take smaller steps")}
    return Posterior(
        samples, truth + 0.01, residuals=lambda: residuals, pictures=lambda: truth, failures=failures, truth=truth,
        cost=Cost(20.0), single=single,
    )  # fmt: skip


def test_moments_and_quantiles() -> None:
    posterior = make()
    assert posterior.shape == (2, 5, *SHAPE)
    torch.testing.assert_close(posterior.mean, posterior.samples.mean(1))
    torch.testing.assert_close(posterior.std, posterior.samples.std(1))
    torch.testing.assert_close(posterior.quantile(0.5), posterior.samples.median(1).values)
    both = posterior.quantile([0.0, 1.0])
    assert both.shape == (2, 2, *SHAPE)
    torch.testing.assert_close(both[1], posterior.samples.amax(1))
    with pytest.raises(UserError, match="quantile: 1.5 is not from 0 to 1"):
        posterior.quantile(1.5)


def test_lost_samples_count_nowhere() -> None:
    posterior = make(lost=(1, 2))
    kept = posterior.samples[1, [0, 1, 3, 4]]
    torch.testing.assert_close(posterior.mean[1], kept.mean(0))
    torch.testing.assert_close(posterior.std[1], kept.std(0))
    torch.testing.assert_close(posterior.quantile(0.0)[1], kept.amin(0))
    assert list(posterior.failures) == [(1, 2)]
    assert list(posterior[1].failures) == [2]
    assert posterior[0].failures == {}
    assert "1 lost" in repr(posterior)
    assert "take smaller steps" in posterior._repr_html_()
    assert posterior[1].metrics()["residual"] == pytest.approx((0 + 1 + 3 + 4) / 4)
    alone = make(1, 1, lost=(0, 0), single=True)
    assert torch.isnan(alone.mean).all()
    assert torch.isnan(alone.quantile([0.5])).all()
    assert "1 lost" in alone._repr_html_()


def test_metrics_are_those_of_a_run() -> None:
    posterior = make(runs=20)
    found = posterior.metrics()
    error = (posterior.mean.clamp(-1, 1) - posterior.truth).square().flatten(1).mean(1) / 4
    assert found["psnr"] == pytest.approx((-10 * torch.log10(error)).tolist(), abs=0.01)
    assert found["residual"] == pytest.approx([9.5, 9.5])
    # truth + n: the samples are centred at the truth, so that it is always covered, and the spread is too large
    assert all(value == pytest.approx(20**0.5, rel=0.2) for value in found["spread_error"])
    one = posterior[1].metrics(np.asarray(posterior.truth[1]))
    assert {key: value[1] for key, value in found.items()} == pytest.approx(one)
    with pytest.raises(
        UserError, match=r"truth: the shape \[3, 8, 8\] is not that of the images, \[2, 3, 16, 16\]"
    ):
        posterior.metrics(torch.zeros(3, 8, 8))


def test_indexing_gives_images() -> None:
    posterior = make(3)
    one = posterior[1]
    assert torch.equal(one.samples, posterior.samples[1])
    assert torch.equal(one.residuals, posterior.residuals[1])
    assert (one.names, one.single, len(one)) == (["image-002"], True, 1)
    assert torch.equal(posterior["image-003"].mean, posterior[-1].mean)
    assert torch.equal(posterior[1, 2], posterior.samples[1, 2])
    assert posterior[1:].samples.shape == (2, 5, *SHAPE)
    assert [each.names[0] for each in posterior] == posterior.names
    for index, error in ((3, IndexError), ("nobody", UserError)):
        with pytest.raises(error):
            posterior[index]
    with pytest.raises(IndexError, match="there is one image"):
        one[1]


def test_functions_of_torch_and_numpy_see_the_samples() -> None:
    posterior = make()
    assert torch.equal(torch.isfinite(posterior), torch.ones(2, 5, *SHAPE, dtype=torch.bool))
    assert torch.equal(torch.stack([posterior, posterior])[0], posterior.samples)
    assert torch.equal(posterior.samples - posterior, torch.zeros(2, 5, *SHAPE))
    np.testing.assert_array_equal(np.asarray(posterior), posterior.samples.numpy())


def test_a_notebook_shows_a_picture_and_numbers() -> None:
    html = make(6)._repr_html_()
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert data is not None
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).width > 500
    assert "http" not in html
    assert 'alt="measurement, samples, mean' in html
    assert "the first 4 are shown" in html
    assert "6 images [3, 16, 16], 5 samples each" in html
    assert html.count("<tr>") == 5


def test_plot_draws_a_row_an_image() -> None:
    pytest.importorskip("matplotlib")
    figure = make(2).plot()
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles[:8] == [
        "measurement", "truth", "sample 1", "sample 2", "sample 3", "sample 4", "mean", "standard deviation",
    ]  # fmt: skip
    assert len(titles) == 16
    assert len(make(1, 1, single=True).plot().axes) == 3
    picture = Image.open(io.BytesIO(figure._repr_png_()))  # what a notebook shows
    assert np.ptp(np.asarray(picture.convert("L"))) == 255


@pytest.mark.parametrize(("module", "method"), [("matplotlib.figure", "plot"), ("xarray", "to_xarray")])
def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, module: str, method: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{method} needs .*: pip install 'daps-kit\[notebook\]'"):
        getattr(make(), method)()


def test_what_is_saved_is_opened_again(tmp_path) -> None:
    posterior = make(lost=(0, 1))
    folder = posterior.save(tmp_path / "kept")
    assert (folder / "grid.png").is_file()
    assert (folder / "samples/image-002/mean.png").is_file()
    assert not (folder / "samples/image-001/sample-02.png").exists()
    result = daps_kit.open(folder)
    assert (result.names, result.runs, len(result)) == (("image-001", "image-002"), 5, 2)
    for again, one in zip(result, posterior, strict=True):
        torch.testing.assert_close(again.samples, one.samples, equal_nan=True)
        torch.testing.assert_close(again.residuals, one.residuals, equal_nan=True)
        assert torch.equal(again.measurement, one.measurement)
        assert again.failures == one.failures
        assert again.cost == one.cost
        assert again.metrics() == pytest.approx(one.metrics())
    with pytest.raises(UserError, match="is there already and is not empty"):
        posterior.save(folder)


def test_arviz_reads_the_samples() -> None:
    pytest.importorskip("xarray")
    posterior = make()
    data = posterior.to_xarray()
    assert data["x0"].dims == ("chain", "draw", "image", "channel", "row", "column")
    np.testing.assert_array_equal(
        data["x0"].sel(chain=0, image="image-002").values, posterior.samples[1].numpy()
    )
    assert posterior[0].to_xarray()["residual"].dims == ("chain", "draw")
    if importlib.util.find_spec("arviz") is None:
        pytest.skip("arviz is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        found = arviz.convert_to_inference_data(data)
        table = arviz.summary(found, var_names=["residual"], kind="stats")
    assert table["mean"].tolist() == pytest.approx([2.0, 2.0])


def test_what_was_unknown_goes_with_the_samples(tmp_path: Path) -> None:
    traces = [{"noise.sigma": [0.5, 0.1 * (k + 1)]} for k in range(6)]
    found = Posterior(
        torch.zeros(2, 3, 1, 4, 4), torch.zeros(2, 1, 4, 4), residuals=lambda: torch.ones(2, 3),
        pictures=lambda: torch.zeros(2, 1, 4, 4), traces=traces,
    )  # fmt: skip
    assert found.traces["noise.sigma"].shape == (2, 3, 2)
    assert torch.allclose(found[1].parameters["noise.sigma"], torch.tensor([0.4, 0.5, 0.6]).double())
    assert "noise.sigma 0.5 ± 0.1" in repr(found[1])
    again = daps_kit.open(found.save(tmp_path / "saved"))
    assert torch.allclose(again[1].parameters["noise.sigma"], found[1].parameters["noise.sigma"])


def test_angles_are_summed_up_across_their_period(tmp_path: Path) -> None:
    traces = [{"angle": [90.0, value]} for value in (178.0, 1.0, 4.0, 30.0, 31.0, 32.0)]
    found = Posterior(
        torch.zeros(2, 3, 1, 4, 4), torch.zeros(2, 1, 4, 4), residuals=lambda: torch.ones(2, 3),
        pictures=lambda: torch.zeros(2, 1, 4, 4), traces=traces, periods={"angle": 180.0},
    )  # fmt: skip
    expected = torch.tensor([[-2.0, 1.0, 4.0], [30.0, 31.0, 32.0]]).double()
    assert torch.allclose(found.parameters["angle"], expected)
    assert torch.allclose(found.traces["angle"][..., 0], torch.tensor(90.0).double())
    assert "angle 1 ± 3" in found[0]._repr_html_()
    assert "angle 16" in repr(found)
    again = daps_kit.open(found.save(tmp_path / "saved"))
    assert torch.allclose(again[0].parameters["angle"], expected[0])
    assert "angle 1 ± 3" in repr(again[0])
