"""A training by torchrun: two processes make the steps that one makes with both their shares."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml

from daps_kit.errors import UserError
from daps_priors.training import trainer
from daps_priors.training.objective import DenoisingError
from tests.priors.training.discs import log, recipe, tensors


@dataclass(frozen=True)
class Both:
    """The loss of two workers' shares, in one process."""

    inner: DenoisingError

    def loss(self, model, step, rank):
        return (self.inner.loss(model, step, 0) + self.inner.loss(model, step, 1)) / 2


def torchrun(path: Path, output: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "daps_kit", "train", "-q", str(path), f"trainer.output={output}"]
    done = subprocess.run(
        command, env=environment | {"GLOO_SOCKET_IFNAME": "lo"}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_train_as_one_with_both_their_shares(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(data, tmp_path / "one", images_seen=64, epoch=64)
    described = settings.model_dump(mode="json", exclude={"output"})
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"format": 1, "trainer": {"use": "denoiser", **described}}))
    torchrun(path, tmp_path / "two")

    monkeypatch.setattr(
        trainer,
        "DenoisingError",
        lambda examples, *rest: Both(DenoisingError(replace(examples, workers=2), *rest)),
    )
    settings.build().run()
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5, msg=key)
    assert [line["images"] for line in log(tmp_path / "two")] == [64], "the first alone writes"
    assert (tmp_path / "two" / "weights.safetensors").is_file()


def test_what_torchrun_cannot_share_is_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=r"batch_size \(16\) must be divisible by the 3 processes"):
        recipe(data, tmp_path / "out").build().run()
    with pytest.raises(UserError, match="set workers to 1 under torchrun"):
        recipe(data, tmp_path / "out", workers=2).build().run()
