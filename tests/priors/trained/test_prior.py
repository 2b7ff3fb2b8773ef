"""The denoiser as a prior, and the one that ships with the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from daps_kit import build
from daps_kit.contracts import RandomStreams
from daps_kit.errors import UserError
from daps_priors.trained.prior import WEIGHTS, TrainedPrior, load_embedded, load_trained
from tests.priors.trained.small import CPU, images


def test_the_denoiser_is_differentiable(file: Path) -> None:
    prior = load_trained(file, shape=None, device=CPU)
    x, v = images(2, 9), images(2, 10)
    leaf = x.clone().requires_grad_()
    prior.denoise(leaf, torch.tensor([0.5, 1.0])).square().sum().backward()
    assert leaf.grad is not None
    step = 1e-3
    sigma = torch.tensor([0.5, 1.0])
    ahead, behind = (prior.denoise(x + s * v, sigma).double().square().sum() for s in (step, -step))
    assert float((leaf.grad * v).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=2e-3)
    assert not prior.denoise(x, 0.5).requires_grad
    assert all(not p.requires_grad for p in prior.model.parameters())


def test_another_shape_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"shape \[3, 16, 16\].*\[1, 16, 16\]"):
        load_trained(file, shape=(1, 16, 16), device=CPU)
    with pytest.raises(UserError, match=r"not \[3, 8, 8\]"):
        load_trained(file, shape=None, device=CPU).denoise(torch.zeros(1, 3, 8, 8), 1.0)


@pytest.fixture(scope="module")
def prior() -> TrainedPrior:
    return load_embedded("portraits64", shape=(3, 64, 64), device=CPU)


def test_it_is_small_and_says_what_it_is(prior: TrainedPrior) -> None:
    path = WEIGHTS / "portraits64.safetensors"
    assert path.stat().st_size <= 8_000_000
    card = prior.description["card"]
    assert card["title"] == "portraits64"
    assert "CC BY 3.0" in card["attribution"]
    assert "UK Parliament" in card["attribution"]
    assert card["limits"]


def test_its_head_makes_edges_less_certain_than_flat_places(prior: TrainedPrior) -> None:
    assert build("prior", {"use": "embedded", "head": False}).local_errors is None
    assert prior.local_errors is not None
    x0 = torch.full((1, 3, 64, 64), -0.5)
    x0[..., 32:] = 0.5
    x = x0 + 0.1 * RandomStreams([0]).normal((3, 64, 64))
    scale = prior.conditional_covariance(x, 0.1).scale[0]
    edge, flat = scale[..., 31:33], torch.cat((scale[..., 4:20], scale[..., 44:60]), -1)
    assert float(edge.median()) > 1.3 * float(flat.median())


def test_its_error_is_far_below_the_linear_one(prior: TrainedPrior) -> None:
    for sigma, mse in zip(prior.calibration.sigma, prior.calibration.mse, strict=True):
        if 0.1 <= sigma <= 2:
            linear = float(prior.model.gauss.rms_error(sigma)[0]) ** 2
            assert mse < 0.75 * linear, f"sigma {sigma}: {mse} against {linear}"


@pytest.mark.parametrize("sigma", [0.05, 1.0, 50.0])
def test_in_bfloat16_it_is_as_exact(prior: TrainedPrior, sigma: float) -> None:
    rough = build("prior", {"use": "embedded", "dtype": "bfloat16"}, shape=(3, 64, 64))
    x0 = prior.sample((3, 64, 64), RandomStreams(range(4)), steps=10)
    x = x0 + sigma * RandomStreams(range(9, 13)).normal((3, 64, 64))
    with torch.no_grad():
        off = (rough.denoise(x, sigma) - prior.denoise(x, sigma)).square().mean()
    error = float(prior.calibration.covariance(sigma, 64, 64).power.mean())
    assert 0 < float(off) < 1e-3 * error


@pytest.mark.slow
def test_in_bfloat16_samples_spread_and_cover_as_in_single_precision() -> None:
    operator = build("operator", {"use": "gaussian_blur"}, shape=(3, 64, 64), seed=0)
    sampler = build("sampler", {"use": "daps", "budget": "fast"})
    found = {}
    for dtype in ("float32", "bfloat16"):
        prior = build("prior", {"use": "embedded", "dtype": dtype}, shape=(3, 64, 64))
        if dtype == "float32":
            truths = prior.sample((3, 64, 64), RandomStreams(range(3)), steps=10)
            y = operator.measure(truths, RandomStreams(range(3))).repeat_interleave(8, 0)
        *_, last = sampler.sample(prior, operator, y, RandomStreams(range(24)))
        samples = last.x0y.unflatten(0, (3, 8))
        inside = (samples.amin(1) < truths) & (truths < samples.amax(1))
        found[dtype] = inside.float().mean().item(), samples.std(1).mean().item()
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.01)


@pytest.mark.slow
def test_it_can_be_compiled(prior: TrainedPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_with, graphs = torch.compile, []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda model: compile_with(model, backend=backend))
    compiled = build("prior", {"use": "embedded", "compile": True}, shape=(3, 64, 64))
    x = RandomStreams([0]).normal((3, 64, 64))
    with torch.no_grad():
        torch.testing.assert_close(compiled.denoise(x, 1.0), prior.denoise(x, 1.0), rtol=1e-4, atol=1e-5)
    assert graphs


def test_it_loads_within_a_second_and_without_the_trainer() -> None:
    code = (
        "import sys, time, torch\n"
        "torch.set_num_threads(1)\n"
        "start = time.process_time()\n"
        "from daps_priors.trained.prior import load_embedded\n"
        "load_embedded('portraits64', shape=(3, 64, 64), device=torch.device('cpu'))\n"
        "print(time.process_time() - start)\n"
        "assert not {'scipy', 'daps_priors.training.trainer', 'daps_priors.training.trainer.step'} & set(sys.modules)\n"
    )
    path = ":".join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


def test_samples_of_it_look_like_its_images(prior: TrainedPrior) -> None:
    """Samples of the flow have the mean and the spread, by pixel, of the Gaussian fitted to the images."""
    from daps_priors.training.validation import sample

    drawn = sample(prior.model, (12, 3, 64, 64), seed=3, steps=12)
    assert drawn.abs().max() < 1.6
    distance = (drawn.mean(0) - prior.model.gauss.mean).square().mean().sqrt()
    spread = float(prior.model.gauss.data_std)
    assert distance < spread
    assert 0.5 * spread < (drawn - prior.model.gauss.mean).square().mean().sqrt() < 1.5 * spread
