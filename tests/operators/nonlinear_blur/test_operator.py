"""Nonlinear blur as an operator, at any size, with codes that are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from daps_kit.errors import UserError
from daps_kit.noise import GaussianNoise
from daps_operators import NonlinearBlur as NonlinearBlurSettings
from daps_operators.nonlinear_blur.bkse import BlurNetwork, load_blur_network
from daps_operators.nonlinear_blur.operator import NonlinearBlur, published_weights
from tests.operators.nonlinear_blur.tiny_bkse import CPU, TINY, code_of, drawn_weights, images


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
