"""Nonlinear blur: the published network rebuilt, at any size, with weights that are checked."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from daps_kit.errors import UserError
from daps_kit.noise import GaussianNoise
from daps_operators import NonlinearBlur as NonlinearBlurSettings
from daps_operators.nonlinear_blur.bkse import BlurNetwork, BlurNetworkConfig, load_blur_network
from daps_operators.nonlinear_blur.operator import NonlinearBlur, code_size, published_weights

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")
TINY = BlurNetworkConfig(3, 4, 1, 2, (4, 8), 6, 5)  # stride 16

Shapes = list[tuple[str, tuple[int, ...]]]


def published_shapes() -> Shapes:
    """Return names and shapes of the published weights, in order."""
    lines = (GOLDEN / "bkse_state_dict.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    return [(name, tuple(map(int, re.findall(r"\d+", shape)))) for name, shape, *_ in rows]


def encoder_shapes(config: BlurNetworkConfig) -> Shapes:
    """Return the parameters of the encoder, which stand before the adapter's in published weights."""
    names = [name for name, _ in published_shapes() if name.startswith("kernel_extractor")]
    width, out = config.width, 2 * config.kernel_dim
    channels = [width, *(min(width * 2**level, out) for level in range(1, 6))]
    downs = [(after, before, 3, 3) for before, after in pairwise(channels)]
    return list(zip(names, [(width, 2 * width, 7, 7), *downs, *[(out, out, 3, 3)] * 8], strict=True))


def own_shapes(config: BlurNetworkConfig) -> Shapes:
    with torch.device("meta"):
        return [(name, tuple(t.shape)) for name, t in BlurNetwork(config).state_dict().items()]


def drawn_weights(config: BlurNetworkConfig, rule: str = "B") -> dict[str, torch.Tensor]:
    """Return weights drawn by the rules of the recorded numbers, the encoder's among them."""
    own = own_shapes(config)
    adapter = [name for name, _ in own].index("adapter.model.down.0.weight")
    weights = {}
    for k, (name, shape) in enumerate([*own[:adapter], *encoder_shapes(config), *own[adapter:]]):
        r = torch.randn(shape, generator=torch.Generator().manual_seed(k))
        if rule == "A":
            weights[name] = 0.02 * r
        else:
            weights[name] = r / np.sqrt(r[0].numel()) if r.ndim > 1 else 0.1 * r
    return weights


def images(batch: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed)) - 1


def code_of(network: BlurNetwork, *shape: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    size = (batch, network.config.kernel_dim, *code_size(network, shape))
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def error(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest number."""
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> BlurNetwork:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(drawn_weights(TINY), path)
    return load_blur_network(path)


@pytest.fixture
def tiny_file(tmp_path) -> Path:
    path = tmp_path / "tiny.pth"
    torch.save(drawn_weights(TINY), path)
    return path


def test_parameters_have_the_published_names_and_shapes():
    published = [row for row in published_shapes() if not row[0].startswith("kernel_extractor.")]
    assert own_shapes(BlurNetworkConfig()) == published
    assert sum(int(np.prod(shape)) for _, shape in published) == 23_662_531


@pytest.mark.parametrize(
    ("name", "rule", "step", "gradient_tolerance"),
    [
        ("small_128", "B", 4, 1e-4),
        ("small_256", "B", 4, 1e-4),
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
    assert error(gradient[some], arrays["grad_sub"]) < gradient_tolerance


@pytest.mark.parametrize("size", [(16, 48), (17, 30), (5, 7), (40, 1)])
def test_images_of_any_size_are_reflected_at_their_borders(tiny, size):
    x = images(2, 3, *size)
    operator = NonlinearBlur((3, *size), GaussianNoise(0.05), tiny, code_of(tiny, 3, *size))
    lacking = [-side % 16 for side in size]
    borders = [(n // 2, n - n // 2) for n in lacking]
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), *borders], mode="reflect")
    expected = tiny(torch.from_numpy(padded) / 2 + 0.5, operator.code)
    (top, _), (left, _) = borders
    expected = (2 * expected[..., top : top + size[0], left : left + size[1]] - 1).clamp(-1, 1)
    torch.testing.assert_close(operator.forward(x), expected)


def test_derivatives_equal_finite_differences(tiny):
    operator = NonlinearBlur((3, 20, 16), GaussianNoise(0.05), tiny, code_of(tiny, 3, 20, 16))
    x, v = 0.5 * images(1, 3, 20, 16), images(1, 3, 20, 16, seed=1)
    u = images(1, 3, 20, 16, seed=2)
    product = operator.jvp(x, v)
    step = 1e-3
    difference = (operator.forward(x + step * v) - operator.forward(x - step * v)) / (2 * step)
    assert float((product - difference).norm() / difference.norm()) < 1e-2  # there are kinks between
    _, vjp = operator.forward_vjp(x)
    assert float((product * u).sum()) == pytest.approx(float((v * vjp(u)).sum()), rel=1e-4)


def test_nothing_is_learnt_and_the_argument_is_left_alone(tiny):
    operator = NonlinearBlur((3, 16, 16), GaussianNoise(0.05), tiny, code_of(tiny, 3, 16, 16))
    x = images(1, 3, 16, 16)
    before = x.clone()
    assert not operator.forward(x).requires_grad
    assert operator.forward(x.clone().requires_grad_()).requires_grad
    assert torch.equal(x, before)
    assert torch.equal(operator.forward(x), operator.forward(x))


def test_the_code_steers_the_blur_and_each_sample_may_have_its_own(tiny):
    shape = (3, 16, 32)
    operators = [
        NonlinearBlur(shape, GaussianNoise(0.05), tiny, code_of(tiny, *shape, seed=seed)) for seed in range(3)
    ]
    x = images(1, *shape).expand(3, -1, -1, -1)
    stacked = NonlinearBlur.stack(operators)
    assert isinstance(stacked, NonlinearBlur)
    expected = torch.cat([operator.forward(x[:1]) for operator in operators])
    torch.testing.assert_close(stacked.forward(x), expected)
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3
    assert stacked.state()["kernel"].shape == (3, 6, 1, 2)
    assert NonlinearBlur.stack([operators[0]] * 3) is operators[0]


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
            r"of another shape: recon_trunk\.0\.conv1\.weight is \(4, 4, 5, 5\) where \(4, 4, 3, 3\) fits",
        ),
        (lambda w: w.clear(), r"is missing"),
        (lambda w: w.update(step=3), r"not a state dict of tensors"),
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
    with pytest.raises(UserError, match=rf"the weights .*{name}"):
        load_blur_network(tmp_path / name)


def test_no_code_is_run_from_a_weights_file(tmp_path):
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    torch.save(Payload(), tmp_path / "evil_zip.pth")
    for name in ("evil.pth", "evil_zip.pth"):
        with pytest.raises(UserError, match="tensors alone"):
            load_blur_network(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_missing_published_weights_say_what_to_download(monkeypatch, tmp_path):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        NonlinearBlurSettings(weights="published").build(shape=(3, 256, 256), seed=0, device=CPU)
    message = str(caught.value)
    assert "\n" not in message
    assert "GOPRO_wVAE.pth" in message
    assert "1vRoDpIsrTRYZKsOMPNbPcMtFDpCT6Foy" in message
    assert str(tmp_path / "checkpoints" / "GOPRO_wVAE.pth") in message


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("DAPS_KIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert published_weights() == tmp_path / "daps-kit" / "checkpoints" / "GOPRO_wVAE.pth"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert published_weights() == Path.home() / ".cache" / "daps-kit" / "checkpoints" / "GOPRO_wVAE.pth"


def test_weights_in_the_cache_are_found_and_shared(monkeypatch, tmp_path):
    monkeypatch.setenv("DAPS_KIT_CACHE", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(drawn_weights(TINY), published_weights())
    first, second = (
        NonlinearBlurSettings(weights="published", kernel="random").build(
            shape=(3, 16, 16), seed=seed, device=CPU
        )
        for seed in (0, 1)
    )
    assert first.network is second.network
    assert first.forward(images(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_kernel_codes(tiny_file, tmp_path):
    def code(size: tuple[int, int] = (32, 32), seed: int = 0, **settings) -> torch.Tensor:
        built = NonlinearBlurSettings(weights=tiny_file, **settings)
        return built.build(shape=(3, *size), seed=seed, device=CPU).state()["kernel"]

    published = 1.2 * np.random.RandomState(0).randn(1, 6, 2, 2)
    np.testing.assert_array_equal(code(), published.astype(np.float32))
    assert torch.equal(code(seed=1), code(seed=0))
    assert not torch.equal(code(kernel="random", seed=1), code(kernel="random", seed=0))
    assert torch.equal(code(kernel="random", seed=1), code(kernel="random", seed=1))
    torch.testing.assert_close(code(kernel_scale=2.4), 2 * code())
    assert code(size=(33, 16)).shape == (1, 6, 3, 1)

    for shape in [(6, 2, 2), (1, 6, 2, 2), (6,), (6, 1, 1)]:
        numbers = np.random.default_rng(0).standard_normal(shape)
        np.save(tmp_path / "code.npy", numbers)
        read = code(kernel=tmp_path / "code.npy")
        assert read.shape == (1, 6, 2, 2)
        expected = np.broadcast_to(numbers.reshape(6, *(2, 2) if numbers.size > 6 else (1, 1)), (6, 2, 2))
        np.testing.assert_array_equal(read[0], expected.astype(np.float32))
    np.save(tmp_path / "code.npy", np.zeros((6, 3, 3)))
    with pytest.raises(UserError, match=r"shape \(6, 3, 3\); allowed .*: \(6, 2, 2\), or \(6,\)"):
        code(kernel=tmp_path / "code.npy")


def test_the_published_code_is_that_of_the_recorded_numbers(golden):
    arrays, _ = golden("op_nonlinear_blur_default256_ruleA")
    code = 1.2 * np.random.RandomState(0).standard_normal((512, 2, 2))
    np.testing.assert_array_equal(code.astype(np.float32), arrays["kernel"][0])


def test_wrong_settings_are_named(tiny_file):
    with pytest.raises(UserError, match="takes images of 3 channels, got 1"):
        NonlinearBlurSettings(weights=tiny_file).build(shape=(1, 16, 16), seed=0, device=CPU)
    for key, value, message in [
        ("weights", "publshed", "did you mean 'published'"),
        ("weights", "there/is/none.pth", "no such file"),
        ("kernel", "image.png", "is not 'published', 'random' or a .npy file"),
        ("kernel_scale", 0.0, "greater than 0"),
        ("kernal", "random", "Extra inputs"),
    ]:
        with pytest.raises(ValidationError, match=message):
            NonlinearBlurSettings.model_validate({key: value})


def test_only_random_codes_differ_between_images():
    assert NonlinearBlurSettings(draw="per_image", kernel="random").per_image
    assert not NonlinearBlurSettings(draw="per_image").per_image
    assert not NonlinearBlurSettings(kernel="random").per_image


def test_double_precision_agrees_with_single(tiny):
    operator = NonlinearBlur((3, 20, 16), GaussianNoise(0.05), tiny, code_of(tiny, 3, 20, 16))
    x = images(2, 3, 20, 16)
    double = operator.forward(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), operator.forward(x), rtol=1e-5, atol=1e-5)
    assert tiny.recon_trunk[-1].weight.dtype == torch.float32
