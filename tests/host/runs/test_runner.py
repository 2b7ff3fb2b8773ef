"""Runs from recipe to pictures: what they write, and that no sample depends on what was drawn beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import daps_kit
from daps_kit import memory
from daps_kit.errors import UserError
from daps_kit.recipe import load_recipe
from daps_kit.runs.ensemble import posterior_mean
from daps_kit.runs.folder import RunFolder
from daps_kit.runs.metrics import psnr, ssim
from daps_priors.exact.gaussian import GaussianPrior
from daps_samplers.daps import DAPS


def run(path: Path, *overrides: str) -> Any:
    return daps_kit.run(path, overrides, quiet=True)


# --- what is written


def test_everything_a_run_writes(toy, tmp_path):
    result = run(toy(), "trajectory=3")
    files = sorted(str(p.relative_to(result.path)) for p in result.path.rglob("*") if p.is_file())
    expected = [".lock", "environment.json", "grid.png", "metrics.json", "metrics.md", "recipe.yaml"]
    expected += ["report.html", "report/environment.js"]  # so small that the page holds its pictures itself
    for name in ("ash", "birch", "cedar"):
        expected += [f"measurement/{name}{end}" for end in ("-truth.png", ".png", ".safetensors")]
        own = ["mean.png", "posterior.safetensors", "std.png"]
        own += [f"sample-0{run}{end}" for run in (1, 2) for end in (".png", ".safetensors")]
        own += [f"sample-0{run}-trajectory{end}" for run in (1, 2) for end in (".png", ".safetensors")]
        expected += [f"samples/{name}/{file}" for file in own]
    assert files == sorted(expected)

    assert result.path == tmp_path / "out"
    assert result.names == ("ash", "birch", "cedar")
    assert result.samples.shape == (3, 2, 3, 16, 16)
    assert result.measurement.shape == (3, 3, 16, 16)
    assert result.truth.shape == (3, 3, 16, 16)
    with Image.open(result.path / "samples/ash/sample-02.png") as picture:
        levels = np.asarray(picture).astype(float)
    exact = (result.samples[0, 1].clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(levels - exact).max() <= 0.5001

    moments = load_file(result.path / "samples/ash/posterior.safetensors")
    averages = [
        load_file(result.path / f"samples/ash/sample-0{run}.safetensors")["average"] for run in (1, 2)
    ]
    mean = posterior_mean(result.samples[0], torch.stack(averages))
    torch.testing.assert_close(moments["mean"], mean)
    torch.testing.assert_close(result["ash"].mean, mean)
    torch.testing.assert_close(moments["std"], (result.samples[0, 0] - result.samples[0, 1]).abs() / 2**0.5)

    trajectory = load_file(result.path / "samples/ash/sample-02-trajectory.safetensors")
    assert trajectory["sigma"].tolist() == pytest.approx([5.0, trajectory["sigma"][1].item(), 0.05])
    assert torch.equal(trajectory["x0y"][-1], result.samples[0, 1])


def test_metrics_are_those_of_the_tensors(toy):
    result = run(toy(), "runs=3")
    content = result.metrics
    truth = result.truth
    reported = []
    for index, name in enumerate(result.names):
        item = content["images"][name]
        samples = result.samples[index]
        many = truth[index].expand_as(samples)
        assert [r["psnr"] for r in item["samples"]] == pytest.approx(psnr(samples, many).tolist(), abs=1e-4)
        assert [r["ssim"] for r in item["samples"]] == pytest.approx(ssim(samples, many).tolist(), abs=1e-5)
        clean = daps_kit.build(
            "operator", {"use": "gaussian_blur", "kernel_size": 5, "intensity": 1.0}, shape=(3, 16, 16)
        )
        error = clean.forward(samples) - result.measurement[index]
        residuals = (error.square().flatten(1).mean(1).sqrt() / 0.05).tolist()
        assert [r["residual"] for r in item["samples"]] == pytest.approx(residuals, rel=1e-4)
        apart = (samples[:, None] - samples[None]).square().flatten(2).sum((1, 2))
        assert item["reported"]["run"] == int(apart.argmin())
        assert torch.equal(result.sample(name), samples[item["reported"]["run"]])
        reported.append(item["reported"]["psnr"])
    summary = content["summary"]["reported"]["psnr"]
    assert summary["mean"] == pytest.approx(np.mean(reported))
    assert summary["standard_error"] == pytest.approx(np.std(reported, ddof=1) / 3**0.5)
    assert summary["images"] == 3


def test_the_calls_of_the_network_are_counted(toy, tmp_path, monkeypatch):
    asked = []
    original = GaussianPrior.denoise

    def denoise(self: GaussianPrior, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        asked.append(len(x))
        return original(self, x, sigma)

    monkeypatch.setattr(GaussianPrior, "denoise", denoise)
    result = run(toy(), "check_prior=false")
    assert result.metrics["network_calls"] == sum(asked) / 6 > 0
    assert all(
        item["network_calls"] == [result.metrics["network_calls"]] * 2
        for item in result.metrics["images"].values()
    )
    assert (
        f"{sum(asked) / 6:g} calls of the prior's network for a sample."
        in (result.path / "metrics.md").read_text()
    )
    assert run(toy(), "check_prior=false").metrics == result.metrics, "the files of the samples know it"


def test_the_state_of_operators_is_kept(toy, tmp_path):
    section = {"use": "inpainting", "mask": "random"}
    shared = run(toy(operator=section))
    mask = load_file(shared.path / "operator/3x16x16.safetensors")["mask"]
    hidden = (shared.measurement == 0).all(1)
    assert torch.equal(hidden.float(), 1 - mask.reshape(1, 16, 16).expand_as(hidden))
    own = run(toy(operator=section | {"draw": "per_image"}), f"output={tmp_path / 'own'}")
    assert not (own.path / "operator").exists()
    masks = [load_file(own.path / f"measurement/{name}.safetensors")["operator.mask"] for name in own.names]
    assert not torch.equal(masks[0], masks[1])


def test_the_resolved_recipe_runs_again_to_the_same_result(toy, tmp_path):
    first = run(toy())
    again = run(first.path / "recipe.yaml", f"output={tmp_path / 'again'}")
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.measurement, again.measurement)
    assert first.metrics["images"] == again.metrics["images"]


def test_a_recipe_that_was_read_runs_too(toy, tmp_path):
    (recipe,) = load_recipe(toy())
    assert torch.equal(
        daps_kit.run(recipe, quiet=True).samples, run(toy(), f"output={tmp_path / 'b'}").samples
    )
    with pytest.raises(UserError, match="overrides change the text"):
        daps_kit.run(recipe, ["runs=3"], quiet=True)


def test_a_measurement_without_truth(toy, tmp_path):
    y = torch.linspace(-0.5, 0.5, 768).reshape(3, 16, 16)
    np.save(tmp_path / "mine.npy", y.numpy())
    data = {"use": "measurement", "path": str(tmp_path / "mine.npy"), "image_shape": [3, 16, 16]}
    result = run(toy(data=data))
    assert result.truth is None
    assert torch.equal(result.measurement[0], y)
    assert set(result.metrics["summary"]["reported"]) == {"residual"}
    assert "PSNR" not in (result.path / "metrics.md").read_text()
    assert not (result.path / "measurement/mine-truth.png").exists()


def test_samples_of_a_latent_prior_are_decoded(toy, monkeypatch):
    """A latent of half the size, decoded by doubling every pixel: images consist of blocks of 2 x 2."""
    monkeypatch.setattr(
        GaussianPrior, "state_shape", lambda self, shape: (shape[0], shape[1] // 2, shape[2] // 2)
    )
    monkeypatch.setattr(
        GaussianPrior, "decode", lambda self, z: z.repeat_interleave(2, -1).repeat_interleave(2, -2)
    )
    result = run(toy(), "trajectory=2")
    assert result.samples.shape == (3, 2, 3, 16, 16)
    blocks = result.samples.unflatten(-1, (8, 2)).unflatten(-3, (8, 2))
    assert torch.equal(blocks.amax((-1, -3)), blocks.amin((-1, -3)))
    strip = load_file(result.path / "samples/ash/sample-01-trajectory.safetensors")
    assert strip["x_t"].shape == (2, 3, 16, 16)


def test_tasks_share_a_picture(toy):
    path = toy()
    recipe = yaml.safe_load(path.read_text())
    operator = recipe.pop("operator")
    recipe["tasks"] = {"blur": {"operator": operator}, "denoise": {"operator": {"use": "identity"}}}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    result = run(path)
    assert [task.path.name for task in result.tasks] == ["blur", "denoise"]
    assert set(result.metrics) == {"blur", "denoise"}
    assert result.grid.exists()
    with Image.open(result.grid) as both, Image.open(result.tasks[0].grid) as one:
        assert both.width == one.width
        assert both.height > 1.8 * (one.height - 100)
    text = (result.path / "metrics.md").read_text()
    assert "# blur" in text
    assert "# denoise" in text
    assert torch.equal(result.tasks[0].truth, result.tasks[1].truth)


def test_tasks_share_a_prior_where_it_is_the_same(toy, monkeypatch):
    built: list[float] = []
    original = GaussianPrior.__init__

    def counted(self, *arguments, **more):
        original(self, *arguments, **more)
        built.append(float(self.covariance.isotropic) ** 0.5)

    monkeypatch.setattr(GaussianPrior, "__init__", counted)
    path = toy()
    recipe = yaml.safe_load(path.read_text())
    del recipe["operator"]
    wide = {"use": "gaussian", "mean": 0.0, "std": 0.5}
    tasks = {name: {"operator": {"use": "identity"}} for name in ("first", "second")}
    recipe["tasks"] = tasks | {"wide": {"operator": {"use": "identity"}, "prior": wide}}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    run(path, "runs=1")
    assert built == pytest.approx([0.4, 0.5])


# --- nothing depends on what is beside it


def test_batch_size_does_not_change_samples(toy, tmp_path):
    runs = {
        size: run(toy(), f"batch_size={size}", f"output={tmp_path / str(size)}").samples
        for size in (1, 2, 4, 6)
    }
    for samples in runs.values():
        torch.testing.assert_close(samples, runs[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("draw", ["shared", "per_image"])
def test_other_items_do_not_change_samples(toy, tmp_path, draw):
    path = toy(operator={"use": "inpainting", "mask": "random", "draw": draw})
    together = run(path)
    alone = run(path, f"data.path={tmp_path}/photos/birch.png", "runs=1", f"output={tmp_path / 'alone'}")
    torch.testing.assert_close(alone.samples[0, 0], together.samples[1, 0], atol=1e-6, rtol=0)


def test_images_of_different_sizes_go_in_batches_of_their_own(toy, tmp_path):
    path = toy()
    Image.new("RGB", (20, 12), "red").save(tmp_path / "photos" / "birch-wide.png")
    result = run(path, "data.size=null", "batch_size=5")
    assert result.sample("birch-wide", 1).shape == (3, 12, 20)
    same = run(path, "data.limit=1", f"output={tmp_path / 'b'}")
    torch.testing.assert_close(result.sample("ash", 1), same.sample("ash", 1), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="different shapes"):
        _ = result.samples


def test_seeds_and_runs_differ(toy, tmp_path):
    one, two = (run(toy(), f"seed={seed}", f"output={tmp_path / str(seed)}").samples for seed in (0, 1))
    assert not torch.allclose(one, two, atol=1e-2)
    assert not torch.allclose(one[:, 0], one[:, 1], atol=1e-2)


# --- memory


def starve(monkeypatch: pytest.MonkeyPatch, room: int, error: Exception) -> list[int]:
    """Let the denoiser run out of memory for more than `room` samples; return the sizes it was asked for."""
    original, asked = GaussianPrior.denoise, []

    def denoise(self: GaussianPrior, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        if asked[-1:] != [len(x)]:
            asked.append(len(x))
        if len(x) > room:
            raise error
        return original(self, x, sigma)

    monkeypatch.setattr(GaussianPrior, "denoise", denoise)
    return asked


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_batches_are_halved_until_they_fit(toy, tmp_path, monkeypatch, error):
    plenty = run(toy())
    asked = starve(monkeypatch, 2, error)
    tight = run(toy(), f"output={tmp_path / 'tight'}")
    assert asked[:2] == [6, 3]
    assert set(asked[2:]) == {1}
    torch.testing.assert_close(tight.samples, plenty.samples, atol=1e-6, rtol=0)
    assert json.loads((tight.path / "environment.json").read_text())["batch_size"] == 1


def test_too_little_memory_for_one_sample_is_said(toy, monkeypatch):
    starve(monkeypatch, 0, MemoryError())
    with pytest.raises(UserError, match="not enough memory for a single sample"):
        run(toy())


def test_runs_that_belong_together_stay_in_one_batch(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(DAPS, "together", True)
    asked = starve(monkeypatch, 6, MemoryError())
    runs = load_recipe(toy())[0].runs
    first = run(toy(), "batch_size=1")
    assert set(asked) == {runs}
    added = run(toy(), "batch_size=1", f"runs={runs + 3}")  # those that are added are together, too
    assert set(asked) == {runs, 3}
    torch.testing.assert_close(added.samples[:, :runs], first.samples)
    starve(monkeypatch, runs - 1, MemoryError())
    with pytest.raises(
        UserError, match=f"not enough memory for the {runs} runs of an image that are drawn together"
    ):
        run(toy(), f"output={tmp_path / 'tight'}")


def test_other_errors_are_not_taken_for_a_lack_of_memory(toy, monkeypatch):
    starve(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(toy())


# --- lost samples


def spoil(monkeypatch: pytest.MonkeyPatch, lost: set[int]) -> None:
    """Let the denoiser give NaN at low noise for samples at these places of the batch."""
    original = GaussianPrior.denoise

    def denoise(self: GaussianPrior, x: torch.Tensor, sigma: Any) -> torch.Tensor:
        out = original(self, x, sigma)
        if float(torch.as_tensor(sigma).max()) < 1:
            out = out.clone()
            out[sorted(lost & set(range(len(out))))] = torch.nan
        return out

    monkeypatch.setattr(GaussianPrior, "denoise", denoise)


def test_a_lost_sample_is_reported_and_spoils_no_other(toy, tmp_path, monkeypatch, capsys):
    intact = run(toy())
    spoil(monkeypatch, {3})
    result = daps_kit.run(toy(), [f"output={tmp_path / 'spoiled'}", "trajectory=99"])
    assert result.samples[1, 1].isnan().all()
    for index, run_ in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1)):
        assert torch.equal(result.samples[index, run_], intact.samples[index, run_])
    assert not (result.path / "samples/birch/sample-02.png").exists()
    assert [(lost["image"], lost["run"]) for lost in result.metrics["lost"]] == [("birch", 1)]
    assert "lost at level" in result.metrics["lost"][0]["message"]
    assert "denoiser gave NaN" in result.metrics["lost"][0]["message"]
    (lost,) = result.metrics["lost"]
    trace = load_file(result.path / "samples/birch/sample-01-trajectory.safetensors")["sigma"].tolist()
    assert lost["cause"] == "denoiser"
    assert lost["advice"] == GaussianPrior.nan_advice
    assert lost["sigma"] == pytest.approx(max(sigma for sigma in trace if sigma < 1))
    assert (lost["level"], lost["levels"]) == (1 + sum(sigma >= 1 for sigma in trace), len(trace))
    assert "- birch, sample 2: lost at level" in (result.path / "metrics.md").read_text()
    assert "warning: birch, sample 2: lost at level" in capsys.readouterr().err
    birch = result.metrics["images"]["birch"]
    assert [record["run"] for record in birch["samples"]] == [0]
    average = load_file(result.path / "samples/birch/sample-01.safetensors")["average"]
    assert torch.equal(result["birch"].mean, average)
    expected = float(psnr(average[None], result.truth[1:2]))
    assert birch["posterior_mean"]["psnr"] == pytest.approx(expected)
    again = run(toy(), f"output={tmp_path / 'spoiled'}", "trajectory=99")
    assert again.metrics == result.metrics


def test_samples_that_are_to_be_doubted_are_named(toy, tmp_path, capsys):
    """No blurred image is white noise, so that its residual is far above what the noise allows."""
    (tmp_path / "odd").mkdir()
    for seed, name in enumerate(("ash", "cedar")):
        noise = np.random.default_rng(seed).uniform(-0.9, 0.9, (3, 16, 16))
        np.save(tmp_path / f"odd/{name}.npy", noise.astype(np.float32))
    data = {"use": "measurement", "path": str(tmp_path / "odd"), "image_shape": [3, 16, 16]}
    result = daps_kit.run(toy(data=data))
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "warning: ash, sample 1; ash, sample 2; cedar, sample 1; cedar, sample 2: the measurement is not explained"
        in said
    )
    doubted = result.metrics["doubted"]
    assert [(d["image"], d["run"]) for d in doubted] == [(n, r) for n in ("ash", "cedar") for r in (0, 1)]
    for record in doubted:
        found = result.metrics["images"][record["image"]]["samples"][record["run"]]["residual"]
        assert (record["cause"], record["level"]) == ("residual", record["levels"])
        assert record["size"] == pytest.approx(found, rel=0.05)
        assert record["size"] > 1.1


@pytest.mark.parametrize(
    ("stated", "cause", "chance"), [(0.2, "", 0.06), (0.8, "overstated", 0.06), (0.05, "understated", 0.19)]
)
def test_a_wrong_sigma_is_told_with_what_the_measurement_has(toy, tmp_path, capsys, stated, cause, chance):
    """Of a Gaussian prior of variance v the estimate is known: stated^2 (v + .2^2) / (v + stated^2), see noise_check.

    Its own deviation is a sixteenth where samples follow nearly all of y.
    """
    (tmp_path / "ys").mkdir()
    for seed, name in enumerate(("ash", "cedar")):
        noise = np.random.default_rng(seed).normal(0, 1, (2, 3, 32, 32))
        np.save(tmp_path / f"ys/{name}.npy", (0.1 * noise[0] + 0.2 * noise[1]).astype(np.float32))
    path = toy(
        data={"use": "measurement", "path": str(tmp_path / "ys"), "image_shape": [3, 32, 32]},
        prior={"use": "gaussian", "mean": 0.0, "std": 0.1},
        operator={"use": "identity", "noise": {"use": "gaussian", "sigma": stated}},
        sampler={"use": "daps", "budget": 5},
    )
    result = daps_kit.run(path)
    said = " ".join(capsys.readouterr().err.split())
    level = stated * ((0.01 + 0.04) / (0.01 + stated**2)) ** 0.5
    for name in ("ash", "cedar"):
        found = result.metrics["images"][name]["noise"]
        assert found["cause"] == cause
        assert found["level"] == pytest.approx(level, rel=chance)
        assert found["stated"] == pytest.approx(stated)
    text = (result.path / "metrics.md").read_text()
    assert ("and operator.noise says" in said) == ("## Doubtful measurements" in text) == bool(cause)
    assert ("(and 1 more of this kind)" in said) == bool(cause)
    fitted = daps_kit.run(path, ["sampler.tau=0.01", f"output={tmp_path / 'fitted'}"], quiet=True)
    assert "noise" not in fitted.metrics["images"]["ash"], "a sampler that fits the noise cannot tell"


def test_when_everything_is_lost_the_user_is_told_why(toy, monkeypatch):
    spoil(monkeypatch, set(range(6)))
    with pytest.raises(UserError, match=r"every sample was lost; ash, sample 1: lost at level .*gave NaN"):
        run(toy())


# --- going wrong


def test_a_device_that_is_not_there(toy):
    with pytest.raises(UserError, match=r"device: 'cuda:99' cannot be used here"):
        run(toy(), "device=cuda:99")


def test_nothing_is_sampled_before_all_is_measured(toy, tmp_path):
    path = toy()
    (tmp_path / "photos/cedar.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cedar.png"):
        run(path)
    assert not (tmp_path / "out/samples").exists()


def test_changed_data_are_noticed(toy, tmp_path):
    first = run(toy())
    shutil.copy(tmp_path / "photos/ash.png", tmp_path / "photos/birch.png")
    with pytest.raises(UserError, match=r"photos/birch\.png changed since"):
        run(toy())
    assert torch.equal(
        first.measurement, daps_kit.runs.runner.RunResult(first.path, first.names, 2).measurement
    )


def test_another_recipe_is_refused_and_nothing_changes(toy):
    first = run(toy())
    before = {p: p.read_bytes() for p in first.path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"sampler.kernel.steps: 4 there, 5 here"):
        run(toy(), "sampler.kernel.steps=5")
    assert {p: p.read_bytes() for p in first.path.rglob("*") if p.is_file()} == before


def test_global_random_state_is_left_alone(toy):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(toy())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_noiseless_data_are_explained_as_exactly_as_single_precision_carries(toy, capsys):
    noise = {"use": "gaussian", "sigma": 0}
    sharp = {"use": "gaussian_blur", "kernel_size": 3, "intensity": 0.5, "noise": noise}
    result = daps_kit.run(toy(operator=sharp, sampler={"use": "daps"}))
    said = capsys.readouterr().err
    assert (
        said.count("no noise counts as a standard deviation of 0.00035, as exact as single precision carries")
        == 1
    )
    assert "warning" not in said
    y, _ = RunFolder(result.path).measured("ash")
    operator = daps_kit.build("operator", sharp, shape=(3, 16, 16))
    torch.testing.assert_close(y, operator.forward(result.truth[:1])[0], rtol=0, atol=1e-6)
    found = operator.forward(result.samples[0])
    assert float((found - y).square().mean().sqrt()) == pytest.approx(2**-11.5, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"use": "prior", "count": 1, "image_shape": [3, 100_000, 100_000]}},
            "images of 3 x 100000 x 100000: ",
        ),
        ({"data": {"use": "images", "path": "photos", "size": 1_000_000}}, "images of 1000000 x 1000000: "),
    ],
)
def test_what_no_machine_holds_is_refused_before_it_begins(toy, changes, message):
    with pytest.raises(UserError, match=f"{message}.* GiB of memory at least"):
        daps_kit.run(toy(**changes), quiet=True)


def test_samples_that_do_not_fit_are_refused_before_they_are_drawn(toy, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(memory, "_there", lambda: 4 * 5 * 3 * 16 * 16)
        patched.setattr("daps_kit.runs.measurement.AT_ONCE", 0)
        with pytest.raises(UserError, match="toy: 3 runs of an image: .* GiB of memory at least"):
            daps_kit.run(toy(), ["runs=3"], quiet=True)
    usage = SimpleNamespace(free=4 * 3 * 16 * 16 * 5)
    monkeypatch.setattr("daps_kit.runs.folder.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="the samples need .* GiB, and the disk of .*out has .* free"):
        daps_kit.run(toy(), quiet=True)
