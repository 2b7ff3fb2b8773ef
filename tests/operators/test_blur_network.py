"""The embedded nonlinear blur: its parts against closed forms and scipy, and what the shipped weights promise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.ndimage import convolve

from daps_kit.errors import UserError
from daps_kit.noise import GaussianNoise
from daps_operators import NonlinearBlur as NonlinearBlurSettings
from daps_operators.nonlinear_blur.measure import fit_code, linear_blur, psnr, table
from daps_operators.nonlinear_blur.network import (
    BlurEncoder,
    Curve,
    ShakeNetwork,
    ShakeNetworkConfig,
    path_kernel,
)
from daps_operators.nonlinear_blur.operator import EMBEDDED, NonlinearBlur
from daps_operators.nonlinear_blur.pairs import (
    LIGHT,
    draw_pairs,
    draw_paths,
    draw_shapes,
    load_tiles,
    to_picture,
)
from daps_operators.nonlinear_blur.weights import build, load_blur, load_shake_network, save_weights

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = ShakeNetworkConfig(kernel_dim=12, modes=5, radius=4, moments=32, width=4, hidden=8)


def srgb_to_light(u: np.ndarray) -> np.ndarray:
    return np.where(u <= 0.04045, u / 12.92, ((u.clip(0) + 0.055) / 1.055) ** 2.4)


def small(seed: int = 0, beyond: float = 0.0) -> ShakeNetwork:
    """Return a network at its start, or with light beyond white of random weights."""
    torch.manual_seed(seed)
    network = ShakeNetwork(SMALL)
    rng = np.random.default_rng(seed)
    paths = draw_paths(draw_shapes(64, rng), 256, SMALL.radius, rng)
    network.start(torch.nn.functional.interpolate(paths, SMALL.moments))
    torch.nn.init.normal_(network.beyond_white.conv3.weight, std=beyond)
    return network.requires_grad_(False)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def codes(count: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def astronaut() -> list[np.ndarray]:
    ((picture, *_),) = load_tiles(ROOT / "recipes" / "images" / "astronaut.png", 64)
    border = np.pad(picture, [(12, 12), (12, 12), (0, 0)], mode="reflect")
    return [(border * share).astype(np.uint8) for share in np.linspace(1, 0.4, 20)]


@pytest.fixture(scope="module")
def pairs(astronaut):
    rng = np.random.default_rng(123)
    paths = draw_paths(draw_shapes(12, rng), 12, 8, rng)
    return draw_pairs([*astronaut[:12]], paths, 64, 8, rng)


def test_the_curve_starts_as_that_of_srgb_and_has_an_inverse():
    curve = Curve().double()
    u = torch.linspace(-0.1, 1.3, 2001, dtype=torch.float64)
    # the standard rounds the place where its two pieces meet: they differ by 4e-6 of full scale
    assert float((curve(u).detach() - torch.from_numpy(srgb_to_light(u.numpy()))).abs().max()) < 1e-5
    torch.testing.assert_close(curve.inverse(curve(u)), u, rtol=1e-12, atol=1e-12)
    slope = curve(u).detach().diff() / u.diff()
    assert float(slope.diff().abs().max()) < 3e-3  # no jump in the slope, where the pieces meet neither


def test_kernels_of_known_paths():
    rest = torch.zeros(1, 2, 10)
    assert torch.equal(path_kernel(rest, 2)[0], torch.eye(5)[:, [2]] @ torch.eye(5)[[2]])
    # uniform motion from -1 to 1 along x: the integral of the triangle over it, 1/4 1/2 1/4
    moments = (torch.arange(2000) + 0.5) / 1000 - 1
    line = path_kernel(torch.stack([moments, torch.zeros(2000)])[None].double(), 2)[0]
    torch.testing.assert_close(
        line[2], torch.tensor([0, 0.25, 0.5, 0.25, 0], dtype=torch.float64), rtol=0, atol=1e-6
    )
    assert float(line[[0, 1, 3, 4]].abs().max()) == 0
    point = path_kernel(torch.tensor([[[0.25], [-0.5]]]), 1)[0]  # x to the right, y downwards
    torch.testing.assert_close(point, torch.tensor([[0, 0.375, 0.125], [0, 0.375, 0.125], [0, 0, 0]]))


def test_simulated_paths_are_centred_and_within_bounds():
    rng = np.random.default_rng(0)
    paths = draw_paths(draw_shapes(50, rng), 400, 8, rng)
    lengths = paths.diff(dim=2).norm(dim=1).sum(1)
    assert float(paths.mean(2).abs().max()) < 1e-5
    assert float(paths.abs().max()) <= 8 + 1e-5
    assert float(lengths.max()) <= 16
    assert float(lengths.mean()) == pytest.approx(8, abs=0.8)
    sums = path_kernel(paths, 8).sum((1, 2))
    torch.testing.assert_close(sums, torch.ones(400))


def test_pairs_are_blurred_in_linear_light(astronaut):
    rng = np.random.default_rng(3)
    paths = draw_paths(draw_shapes(20, rng), 20, 8, rng)
    drawn = draw_pairs(astronaut[:20], paths, 64, 8, rng)
    kernels = path_kernel(paths, 8).double().numpy()
    unclipped = clipped = 0
    for u, v, kernel in zip(drawn.sharp.double(), drawn.blurred, kernels, strict=True):
        light = srgb_to_light(u.numpy())
        shaken = np.stack([convolve(plane, kernel, mode="constant")[8:-8, 8:-8] for plane in light])
        difference = np.asarray(to_picture(torch.from_numpy(shaken)) - v)
        if float(u.max()) < 0.9999:
            unclipped += 1
            assert np.abs(difference).max() < 1e-4
        else:
            clipped += 1
            assert difference.max() < 1e-4  # the scene is at least as bright as the picture tells
    assert unclipped >= 3
    assert clipped >= 3


def test_values_of_files_become_light():
    np.testing.assert_allclose(LIGHT, srgb_to_light(np.arange(256) / 255), rtol=1e-6)
    torch.testing.assert_close(
        to_picture(torch.from_numpy(LIGHT)), torch.arange(256) / 255, rtol=0, atol=1e-6
    )


def test_the_network_starts_as_a_camera_that_knows_nothing_beyond_white():
    network, u, code = small().double(), 0.9 * pictures(2, 3, 24, 32).double(), codes(2, 12).double()
    blurred = network(u, code)
    assert blurred.shape == (2, 3, 16, 24)
    for row, kernel, found in zip(u.numpy(), network.adapter.kernel(code).numpy(), blurred, strict=True):
        shaken = np.stack([convolve(srgb_to_light(plane), kernel)[4:-4, 4:-4] for plane in row])
        assert float((to_picture(torch.from_numpy(shaken)) - found).abs().max()) < 2e-4


def test_every_code_is_a_blur():
    network = small()
    for scale in (0.0, 1.0, 100.0):
        kernels = network.adapter.kernel(scale * codes(50, 12))
        assert float(kernels.min()) >= 0
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(50), rtol=0, atol=1e-5)


def test_drawn_codes_have_the_covariance_of_the_shakes_they_start_from():
    torch.manual_seed(0)
    config = ShakeNetworkConfig(modes=20, kernel_dim=40, moments=32)
    network, rng = ShakeNetwork(config), np.random.default_rng(0)
    paths = torch.nn.functional.interpolate(draw_paths(draw_shapes(64, rng), 500, 8, rng), 32)
    network.start(paths)
    weight = network.adapter.path.weight.detach()
    x = paths.flatten(0, 1)
    expected = x.T @ x / len(x)
    covariance = weight @ weight.T
    torch.testing.assert_close(covariance[:32, :32], expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(covariance[32:, 32:], expected, rtol=0, atol=2e-2)
    assert float(covariance[:32, 32:].abs().max()) == 0


def test_exact_kernels_in_the_quotients():
    encoder = BlurEncoder(SMALL)
    kernels = path_kernel(torch.randn(2, 2, 30, generator=torch.Generator().manual_seed(0)), 4)
    assert torch.allclose(
        encoder.ideal_quotients(kernels, torch.ones(2, 3, 24, 13)), kernels[:, None], atol=1e-6
    )
    # a bright point: its blurred twin is the kernel, and the quotient is the kernel but for regularisation and window
    u, v = torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)
    u[..., 32, 32] = 1.0
    v[:, 0, 28:37, 28:37] = to_picture(kernels)
    found, responses = encoder.quotients(u, v)
    ideal = encoder.ideal_quotients(kernels, responses)
    assert found.shape == (2, 3, 9, 9)
    assert float((found - ideal).abs().max()) < 0.03 * float(ideal.max())


def test_linear_blurs_are_found_by_least_squares():
    u = pictures(3, 3, 30, 28)
    kernels = pictures(3, 5, 5, seed=1)
    kernels[1] = kernels[2] = kernels[0]
    v = torch.stack(
        [
            torch.from_numpy(np.stack([convolve(plane, k[::-1, ::-1])[3:-3, 3:-3] for plane in row.numpy()]))
            for row, k in zip(u, kernels.numpy() / 20, strict=True)
        ]
    )
    own, one = linear_blur(u, v, 2)
    assert float((own - v).abs().max()) < 1e-4
    assert float((one - v).abs().max()) < 1e-4
    v[0] = v[0] * 0.5
    own, one = linear_blur(u, v, 2)
    assert float((own - v).abs().max()) < 1e-4
    assert float((one - v).abs().max()) > 1e-2


def test_psnr_is_that_of_the_definition():
    truth = torch.full((1, 3, 4, 4), 0.5)
    assert float(psnr(truth + 0.1, truth)) == pytest.approx(20, abs=1e-4)
    assert float(psnr(truth, truth)) == pytest.approx(100)


def test_a_code_is_found_again():
    network, u = small(beyond=0.02), pictures(2, 3, 40, 40)
    code = codes(2, 12)
    v = network(u, code)
    start = code + 0.1 * codes(2, 12, seed=1)
    before = (network(u, start) - v).square().sum()
    after = (network(u, fit_code(network, u, v, start, steps=12)) - v).square().sum()
    assert float(after) < 1e-2 * float(before)


def test_derivatives_are_exact():
    network = small(beyond=0.02)
    shape = (3, 18, 21)
    operator = NonlinearBlur(shape, GaussianNoise(0.05), network, codes(1, 12)[..., None, None])
    x = 1.6 * pictures(2, *shape).double() - 0.9
    z, y = (pictures(2, *shape, seed=seed).double() - 0.5 for seed in (1, 2))
    product = operator.jvp(x, z)
    step = 1e-5
    difference = (operator.forward(x + step * z) - operator.forward(x - step * z)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-5, atol=1e-6)
    _, vjp = operator.forward_vjp(x)
    assert float((product * y).sum()) == pytest.approx(float((z * vjp(y)).sum()), rel=1e-10)


@pytest.mark.parametrize("size", [(64, 64), (30, 41), (5, 7), (1, 90)])
def test_images_of_any_size(size):
    operator = NonlinearBlurSettings().build(shape=(3, *size), seed=0, device=CPU)
    x = 2 * pictures(2, 3, *size) - 1
    y = operator.forward(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    single = operator.forward(x.double())
    torch.testing.assert_close(single.float(), y, rtol=0, atol=2e-5)


def test_an_even_image_stays_as_it_is_and_nothing_gets_brighter_than_around_it():
    for seed in range(5):
        operator = NonlinearBlurSettings(kernel="random").build(shape=(3, 64, 64), seed=seed, device=CPU)
        for value in (-0.8, -0.2, 0.4, 1.0):
            y = operator.forward(torch.full((1, 3, 64, 64), value))
            assert float((y - value).abs().max()) < 0.02
        x = 1.2 * pictures(1, 3, 64, 64) - 0.9  # up to 0.3, so nothing is white
        assert float(operator.forward(x).max()) < 0.3 + 0.02
        assert float(operator.forward(x).min()) > -0.9 - 0.02


def test_the_shipped_weights_are_small_and_say_what_they_are():
    assert EMBEDDED.stat().st_size < 3e6
    _, _, description = load_shake_network(EMBEDDED)
    card = description["card"]
    assert "CC BY 3.0" in card["attribution"]
    assert "Chris McAndrew" in card["attribution"]
    rows = description["measured"]["psnr"]
    assert rows["encoder"]["mean"] > rows["own linear"]["mean"] + 1.5
    assert rows["fitted code"]["mean"] > rows["own linear"]["mean"] + 1.5
    text = (ROOT / "docs" / "blur64.md").read_text()
    for row in rows.values():
        assert re.search(r" \| ".join(f"{number:.1f}" for number in row.values()), text)


def test_the_shipped_weights_reproduce_unseen_shakes_of_a_free_picture(pairs):
    network, encoder, _ = load_shake_network(EMBEDDED)
    rows = table(network, encoder, pairs, steps=4)
    assert rows["encoder"]["mean"] > rows["identity"]["mean"] + 6
    assert rows["encoder"]["mean"] > rows["one linear"]["mean"] + 5
    assert rows["fitted code"]["mean"] > rows["own linear"]["mean"] + 1.5


def test_codes_of_the_embedded_blur_differ_by_seed_and_by_image():
    def code(**settings) -> torch.Tensor:
        seed = settings.pop("seed", 0)
        built = NonlinearBlurSettings(**settings).build(shape=(3, 64, 64), seed=seed, device=CPU)
        return built.state()["kernel"]

    assert code().shape == (1, 40, 1, 1)
    assert torch.equal(code(seed=1), code(seed=0))
    assert not torch.equal(code(kernel="random", seed=1), code(kernel="random", seed=0))
    operators = [
        NonlinearBlurSettings(kernel="random").build(shape=(3, 32, 32), seed=seed, device=CPU)
        for seed in range(2)
    ]
    x = (2 * pictures(1, 3, 32, 32) - 1).expand(2, -1, -1, -1)
    stacked = NonlinearBlur.stack(operators)
    assert isinstance(stacked, NonlinearBlur)
    torch.testing.assert_close(
        stacked.forward(x), torch.cat([operator.forward(x[:1]) for operator in operators])
    )


def test_drawn_kernels_are_as_wide_as_simulated_ones():
    network, _, _ = load_shake_network(EMBEDDED)
    rng = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.arange(-8.0, 9), torch.arange(-8.0, 9), indexing="ij")

    def widths(kernels: torch.Tensor) -> torch.Tensor:
        return (kernels * (x**2 + y**2)).sum((1, 2)).sqrt()

    simulated = widths(path_kernel(draw_paths(draw_shapes(300, rng), 300, 8, rng), 8))
    drawn = widths(network.adapter.kernel(codes(300, 40)))
    assert float(drawn.median()) == pytest.approx(float(simulated.median()), rel=0.35)


def test_weights_are_read_back(tmp_path):
    torch.manual_seed(0)
    modules = build(SMALL)
    save_weights(tmp_path / "w.safetensors", modules, {"card": {"title": "x"}})
    network, _, description = load_shake_network(tmp_path / "w.safetensors")
    assert network.config == SMALL
    assert description["card"] == {"title": "x"}
    assert not any(p.requires_grad for p in network.parameters())
    for name, tensor in modules["network"].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert isinstance(load_blur(tmp_path / "w.safetensors"), ShakeNetwork)


def test_wrong_weights_are_named(tmp_path):
    with safe_open(EMBEDDED, framework="pt") as file:
        description = json.loads(file.metadata()["daps-kit"])
    tensors, path = load_file(EMBEDDED), tmp_path / "w.safetensors"

    def save(tensors: dict[str, torch.Tensor], **changes: object) -> Path:
        save_file(tensors, path, metadata={"daps-kit": json.dumps(description | changes)})
        return path

    with pytest.raises(UserError, match="holds a denoiser, not the weights of a blur network"):
        load_blur(save(tensors, kind="denoiser"))
    with pytest.raises(UserError, match="has format 99"):
        load_blur(save(tensors, format=99))
    with pytest.raises(UserError, match=r"missing: network\.light\.log_power"):
        load_blur(save({k: v for k, v in tensors.items() if k != "network.light.log_power"}))
    with pytest.raises(UserError, match="not finite"):
        load_blur(save(tensors | {"network.light.log_power": torch.tensor(torch.nan)}))
    path.write_bytes(EMBEDDED.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"w\.safetensors is not a whole"):
        load_blur(path)
    with pytest.raises(UserError, match="takes images of 3 channels, got 1"):
        NonlinearBlurSettings().build(shape=(1, 16, 16), seed=0, device=CPU)


def test_tiles_are_cut_at_halves_of_the_size(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (100, 165, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    (tiles,) = load_tiles(tmp_path, 40)
    assert [tile.shape for tile in tiles] == [(40, 40, 3)] * (2 * 4 + 1 * 2)
    np.testing.assert_array_equal(tiles[5], array[40:80, 40:80])
