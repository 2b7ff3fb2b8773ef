"""Denoisers as priors. No weights are fetched: the classical denoisers, an exact one, and networks with random weights."""

import math

import deepinv
import pytest
import torch
from daps_deepinv.denoiser import DenoiserPrior
from daps_deepinv.modules import copied

import daps_kit
from daps_kit.errors import UserError
from daps_kit.testing import cases

pytestmark = pytest.mark.filterwarnings("ignore")  # deepinv's own deprecations

SMALL = {"pretrained": None, "nc": [8, 8, 8, 8], "nb": 1}
RANDOM = "random weights know nothing of images"
DETACHED = "it is a gradient itself, detached from its argument"


def section(denoiser: str, arguments=None, sigma_range=None) -> dict:
    return {"use": "deepinv", "denoiser": denoiser, "arguments": arguments or {}, "sigma_range": sigma_range}


def exact() -> DenoiserPrior:
    """deepinv's E[x0 | x_t] for images that are one of twenty."""
    points = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return DenoiserPrior(deepinv.models.MMSE(points, device=torch.device("cpu")), (0.0, math.inf))


TABLE = {
    "TVDenoiser": (section("TVDenoiser", {"n_it_max": 100}), {}),
    "WaveletDenoiser": (section("WaveletDenoiser", {"level": 2, "wv": "haar"}), {}),
    "MedianFilter": (section("MedianFilter", {"kernel_size": 3}, [0.01, 0.2]), {}),
    "DRUNet": (section("DRUNet", SMALL), {}),
    "GSDRUNet": (section("GSDRUNet", SMALL), dict.fromkeys(["score_is_tweedies", "differentiable"], DETACHED)),
    "DnCNN": (
        section("DnCNN", {"pretrained": None, "depth": 3, "nf": 8}, [0.01, 0.2]),
        dict.fromkeys(["score_is_tweedies", "limit_small_sigma", "limit_large_sigma", "value_range"], RANDOM),
    ),
    "NCSNpp": (
        section(
            "NCSNpp",
            {
                "pretrained": None, "img_resolution": 8, "model_channels": 32, "num_blocks": 1,
                "channel_mult": [1, 1], "attn_resolutions": [],
            },
        ),
        {},
    ),
}  # fmt: skip


def conformance() -> list:
    parameters = cases("prior", exact, (1, 2, 2), name="MMSE")
    for name, (settings, failures) in TABLE.items():
        parameters += [
            case
            for case in cases("prior", settings, (3, 8, 8), name=name, expected_failures=failures)
            if name == "TVDenoiser"
            or not case.id.endswith(("settings_described", "settings_import_is_light"))
        ]
    return parameters


@pytest.mark.parametrize("check", conformance())
def test_conformance(check):
    check()


def denoiser_of(name: str):
    return daps_kit.build("prior", TABLE[name][0], shape=(3, 8, 8))


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TABLE)
def test_it_is_deepinvs_denoiser_on_the_other_scale(name):
    """D(x, sigma) = 2 D_d((x + 1) / 2, sigma / 2) - 1."""
    prior, x = denoiser_of(name), images()
    direct = torch.cat([copied(prior.denoiser)((x[b : b + 1] + 1) / 2, 0.1) for b in range(2)])
    torch.testing.assert_close(prior.denoise(x, 0.2), 2 * direct - 1, rtol=1e-4, atol=1e-4)


def test_bm3d():
    prior = daps_kit.build("prior", section("BM3D"), shape=(1, 16, 16))
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)) / 4
    with torch.no_grad():
        denoised = prior.denoise(x, 0.25)
    assert float(denoised.square().mean()) < 0.3 * float(x.square().mean())


def test_an_exact_denoiser_is_a_mixture_of_points():
    """deepinv's MMSE denoiser against the softmax over its images, on the scale of [-1, 1]."""
    prior = exact()
    points = 2 * torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)) - 1
    x = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    for sigma in (0.3, 2.0):
        distance = (x[:, None] - points).flatten(2).square().sum(2)
        wanted = torch.einsum("bn,nchw->bchw", torch.softmax(-distance / (2 * sigma**2), 1), points)
        torch.testing.assert_close(prior.denoise(x, sigma), wanted, rtol=1e-4, atol=1e-5)


def test_trained_levels_are_the_range_of_samplers():
    assert denoiser_of("DRUNet").sigma_range == pytest.approx((0.0, 100 / 255))
    assert denoiser_of("MedianFilter").sigma_range == pytest.approx((0.02, 0.4))


def test_below_the_range_the_score_is_that_of_its_lower_end():
    prior, x = denoiser_of("MedianFilter"), images()
    torch.testing.assert_close(prior.score(x, 0.005), prior.score(x, 0.02), rtol=1e-3, atol=1e-3)
    assert float((prior.denoise(x, 1e-4) - x).abs().max()) < 1e-3


def test_above_the_range_images_are_shrunk_to_its_upper_end():
    """As the posterior mean of uniform pixels at level high: continuous there, and constant at last."""
    prior, x = denoiser_of("DRUNet"), images()
    high = prior.sigma_range[1]
    torch.testing.assert_close(prior.denoise(x, high * 1.0001), prior.denoise(x, high), rtol=1e-3, atol=1e-3)
    far = prior.denoise(1e4 * x, 1e4)
    assert float(far.std(0).max()) < 0.01
    asked = []
    prior.denoiser.register_forward_pre_hook(lambda module, args: asked.append(args[1]))
    for sigma in (1e-3, 0.1, 5.0):
        prior.denoise(x, sigma)
    assert all(0 <= level <= 50 / 255 + 1e-9 for level in asked)


def test_classical_denoisers_do_not_remember():
    """deepinv's TV denoiser starts where its last call stopped; here each call is the first."""
    prior, x = denoiser_of("TVDenoiser"), images(1)
    first = prior.denoise(x, 0.3)
    prior.denoise(-x, 0.1)
    assert torch.equal(prior.denoise(x, 0.3), first)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_from_a_file(suffix, tmp_path):
    from safetensors.torch import save_file

    network = deepinv.models.DnCNN(pretrained=None, depth=3, nf=8)
    path = tmp_path / f"weights.{suffix}"
    torch.save(network.state_dict(), path) if suffix == "pt" else save_file(network.state_dict(), path)
    settings = section("DnCNN", {"depth": 3, "nf": 8}, [0.0, 0.2]) | {"weights": str(path)}
    prior = daps_kit.build("prior", settings, shape=(3, 8, 8))
    x = images()
    torch.testing.assert_close(prior.denoise(x, 0.1), 2 * network((x + 1) / 2) - 1)
    other = settings | {"arguments": {"depth": 4, "nf": 8}}
    with pytest.raises(UserError, match=f"{path.name} does not hold weights of DnCNN"):
        daps_kit.build("prior", other, shape=(3, 8, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (section("DRUNett"), "nothing in deepinv.models is called 'DRUNett'; did you mean 'DRUNet'"),
        (section("DnCNN", {"pretrained": None}), r"prior.sigma_range: needed.*such as \[0.0, 0.2\]"),
        (section("DRUNet", SMALL, [0.3, 0.1]), "must be 0 <= low < high"),
        (section("DRUNet", {"channels": 3}), "DRUNet has no argument 'channels'.*did you mean"),
        (section("MoDL", None, [0.0, 0.2]), "MoDL is not a denoiser"),
    ],
)  # fmt: skip
def test_mistakes_are_explained_in_a_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        daps_kit.build("prior", settings, shape=(3, 8, 8))
    assert "\n" not in str(caught.value)
