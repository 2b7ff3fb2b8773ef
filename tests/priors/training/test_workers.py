"""Workers: they take the mean, and none of them waits for a dead one."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from daps_kit import tensor_file
from daps_kit.errors import UserError
from daps_priors.trained.network import Denoiser
from daps_priors.training.settings import TrainDenoiser
from daps_priors.training.state import State
from daps_priors.training.step import take_step
from daps_priors.training.workers import workers
from tests.priors.training.discs import recipe, tensors
from tests.priors.training.small import made, objective, start

SCRIPT = """
import json, sys, torch
from pathlib import Path
from daps_priors.training.settings import TrainDenoiser
if __name__ == "__main__":
    torch.set_num_threads(1)
    print("started", flush=True)
    TrainDenoiser(**json.loads(Path(sys.argv[1]).read_text())).build().run()
"""


def launch(settings: TrainDenoiser, folder: Path) -> subprocess.Popen[str]:
    script, described = folder / "train.py", folder / "recipe.json"
    script.write_text(SCRIPT)
    described.write_text(settings.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, str(script), str(described)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if not listing.exists():
        pytest.skip("needs Linux's /proc")
    found = [int(child) for child in listing.read_text().split()]
    return [c for c in found if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


@pytest.mark.slow
def test_kill_nine_loses_nothing(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    settings = recipe(data, output, images_seen=1600, epoch=800, workers=2)
    process = launch(settings, tmp_path)
    wait_for(output / "checkpoint.safetensors.previous", process)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in workers
    ):
        assert time.monotonic() < end, "a worker outlives its killed parent"
        time.sleep(0.05)
    assert tensor_file.read(output / "checkpoint.safetensors")[1]["step"] < 100
    settings.build().run()
    whole = tmp_path / "whole"
    settings.model_copy(update={"output": whole}).build().run()
    for name, value in tensors(whole).items():
        assert torch.equal(value, tensors(output)[name]), name


@pytest.mark.slow
def test_a_dead_worker_ends_the_run_with_a_clear_error(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = launch(recipe(data, output, images_seen=10**6, epoch=10**6, workers=2), tmp_path)
    wait_for(output / "checkpoint.safetensors", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "UserError: a worker process ended early (exit code -9" in error
    assert tensors(output)


def gradient(state: State[Denoiser], rank: int) -> Tensor:
    """Return the flat gradient of a worker's share, of two, of the next step."""
    model = copy.deepcopy(state.model)
    objective(2).loss(model, state.step, rank).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_gradient_of_a_step_is_the_mean_over_the_workers() -> None:
    state = start()
    expected = (gradient(state, 0) + gradient(state, 1)) / 2
    seen: list[Tensor] = []
    with workers(2, state, made, objective(2)) as mean:

        def watched(values: Tensor) -> Tensor:
            seen.append(mean(values).clone())
            return seen[-1]

        for _ in range(3):
            take_step(state, objective(2), 0, watched)
    torch.testing.assert_close(seen[0][:-1], expected, rtol=1e-5, atol=1e-7)
    # The other worker has made the same updates, or its share of the third step would be of other weights.
    alone = start()
    for _ in range(2):
        for p in alone.parameters:
            p.grad = torch.zeros_like(p)
        alone.update((gradient(alone, 0) + gradient(alone, 1)) / 2)
    third = (gradient(alone, 0) + gradient(alone, 1)) / 2
    assert float((seen[2][:-1] - third).norm() / third.norm()) < 1e-3


def bereave(killed: list[float]) -> None:
    """Train with two workers, kill one after a step, note when, and go on."""
    state = start()
    with workers(2, state, made, objective(2)) as mean:
        take_step(state, objective(2), 0, mean)
        (worker,) = active_children()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        killed.append(time.monotonic())
        for _ in range(3):
            take_step(state, objective(2), 0, mean)
    pytest.fail("its death was not noticed")


def test_a_worker_that_dies_while_the_first_computes_is_missed_at_once() -> None:
    killed: list[float] = []
    with pytest.raises(UserError, match=r"exit code -9; .* run the same command again"):
        bereave(killed)
    assert time.monotonic() - killed[0] < 10
    assert not active_children()


def test_a_worker_that_dies_before_it_has_come_is_missed_too() -> None:
    with (
        pytest.raises(UserError, match=r"a worker process ended early \(exit code 3"),
        workers(2, start(), partial(os._exit, 3), objective(2)),
    ):
        pytest.fail("the first went on without it")
    assert not active_children()


def test_one_worker_is_this_process() -> None:
    with workers(1, start(), made, objective()) as mean:
        assert not active_children()
        assert mean(torch.ones(2)).tolist() == [1.0, 1.0]


def test_a_torch_without_gloo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_gloo_available", lambda: False)
    with pytest.raises(UserError, match="set workers to 1"), workers(2, start(), made, objective(2)):
        pytest.fail("there was nothing to connect them")
