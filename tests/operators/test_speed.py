"""The benchmark compares equal things, and its promises hold; listing operators does not import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks import operators as benchmark


def test_plain_forms_have_the_same_gradient():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, 3, 64, 64), generator=generator)
    names = list(benchmark.cases(64))
    assert set(benchmark.PROMISED) < set(names)
    for name, (operator, forward) in benchmark.cases(64).items():
        y = torch.randn(operator.forward(x).shape, generator=generator)
        gradient = operator.loss_grad(x, y)[1]
        error = (benchmark.plain_gradient(forward, x, y) - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-5, name


@pytest.mark.slow
def test_promised_speed(capsys):
    assert benchmark.main(["--repeats", "4"]) == 0, capsys.readouterr().out
    assert "| gaussian_blur |" in capsys.readouterr().out


def test_settings_do_not_import_torch():
    program = (
        "import sys, daps_operators; assert daps_operators.daps_operators(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
