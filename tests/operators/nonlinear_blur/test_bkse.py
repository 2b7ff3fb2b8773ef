"""The published network rebuilt, and its files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from daps_kit.errors import UserError
from daps_kit.noise import GaussianNoise
from daps_operators.nonlinear_blur.bkse import BlurNetworkConfig, load_blur_network
from daps_operators.nonlinear_blur.operator import NonlinearBlur
from tests.operators.nonlinear_blur.tiny_bkse import TINY, drawn_weights, error, own_shapes, published_shapes


def test_parameters_have_the_published_names_and_shapes():
    published = [row for row in published_shapes() if not row[0].startswith("kernel_extractor.")]
    assert own_shapes(BlurNetworkConfig()) == published
    assert sum(int(np.prod(shape)) for _, shape in published) == 23_662_531


@pytest.mark.parametrize(
    ("name", "rule", "step", "gradient_tolerance"),
    [
        ("small_128", "B", 4, 1e-5),
        ("small_256", "B", 4, 1e-5),
        pytest.param("default256_ruleA", "A", 8, 1e-4, marks=pytest.mark.slow),
        # Here 94 % of the output is clipped at up to 28 times the range, and rounding moves activations across
        # their kinks: double precision differs from the recorded gradient by 0.8 % of its largest number.
        pytest.param("default256_ruleB", "B", 8, 5e-2, marks=pytest.mark.slow),
    ],
)
def test_equal_to_recorded_numbers(golden, tmp_path, name, rule, step, gradient_tolerance):
    arrays, params = golden(f"op_nonlinear_blur_{name}")
    option = params["opt"]
    nf = option["nf"]
    levels = (nf, 2 * nf, 4 * nf, 8 * nf, 8 * nf)
    config = BlurNetworkConfig(3, nf, option["front_RBs"], option["back_RBs"], levels, option["kernel_dim"])
    weights = drawn_weights(config, rule)
    total = sum(float(weight.double().sum()) for weight in weights.values())
    assert total == pytest.approx(params["fingerprint"]["sum_of_all_weights_f64"], rel=1e-12)
    torch.save(weights, tmp_path / "weights.pth")
    network = load_blur_network(tmp_path / "weights.pth")
    assert network.config == config

    x, x2, y = (
        torch.from_numpy(arrays[f"{key}_small"]).repeat_interleave(8, -1).repeat_interleave(8, -2)
        for key in ("x", "x2", "y")
    )
    some = (..., slice(1, None, step), slice(2, None, step))
    operator = NonlinearBlur(x.shape[1:], GaussianNoise(0.05), network, torch.from_numpy(arrays["kernel"]))
    assert error(network(x / 2 + 0.5, operator.code)[some], arrays["adapt_sub"]) < 1e-4
    assert error(operator.forward(x)[some], arrays["out_sub"]) < 1e-4
    loss, gradient = operator.loss_grad(x2, y)
    assert error(loss, arrays["loss"]) < 1e-4
    if gradient_tolerance < 1e-4:
        # In single precision it depends on the processor which activations are on which side of their kinks.
        network.double()
        exact = NonlinearBlur(operator.shape, operator.noise, network, operator.code.double())
        _, gradient = exact.loss_grad(x2.double(), y.double())
    assert error(gradient[some], arrays["grad_sub"]) < gradient_tolerance


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_are_read_from_both_formats(tmp_path, suffix, dtype):
    drawn = {name: weight.to(dtype) for name, weight in drawn_weights(TINY).items()}
    weights = {name: w for name, w in drawn.items() if suffix == ".pth" or "kernel_extractor" not in name}
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(weights, path)
    network = load_blur_network(path)
    assert network.config == TINY
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, parameter in network.state_dict().items():
        assert torch.equal(parameter, weights[name].float())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("adapter.model.up.1.bias"), r"missing: adapter\.model\.up\.1\.bias$"),
        (lambda w: w.pop("feature_extractor.0.weight"), r"feature_extractor\.0\.weight is missing"),
        (lambda w: w.update(extra=torch.ones(1)), r"unexpected: extra$"),
        (
            lambda w: w.update({"recon_trunk.0.conv1.weight": torch.ones(4, 4, 5, 5)}),
            r"of another shape: recon_trunk\.0\.conv1\.weight \[4, 4, 5, 5\] instead of \[4, 4, 3, 3\]",
        ),
        (lambda w: w.clear(), r"holds no state dict"),
        (
            lambda w: w.update({"feature_extractor.0.weight": torch.ones(3)}),
            r"no weights of a bkse blur network",
        ),
    ],
)
def test_wrong_weights_are_named(tmp_path, damage: Callable[[dict], object], message):
    weights = drawn_weights(TINY)
    damage(weights)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        load_blur_network(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 a broken archive"])
def test_unreadable_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        load_blur_network(tmp_path / name)


def test_no_code_is_run_from_a_weights_file(tmp_path):
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    torch.save(Payload(), tmp_path / "evil_zip.pth")
    for name in ("evil.pth", "evil_zip.pth"):
        with pytest.raises(UserError, match="not a checkpoint|holds no state dict"):
            load_blur_network(tmp_path / name)
    assert not (tmp_path / "touched").exists()
